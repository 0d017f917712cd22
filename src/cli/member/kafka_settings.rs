//! Settings that a broker takes in while it runs.

use crate::cli::Context;
use crate::clock::{Clock, SystemClock};
use crate::kafka::settings::{Change, changes, parse};
use crate::kafka::{Admin, AdminError};
use crate::secret::Secret;
use crate::service::dynamic_setting;
use anyhow::Context as _;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Below what the whole change may take.
const CONTROLLER_WITHIN: Duration = Duration::from_secs(30);
const ASK_EVERY: Duration = Duration::from_millis(250);

/// Flags of `aesop member kafka-settings`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The broker's own listener
    #[arg(long)]
    bootstrap: String,
    /// Its id
    #[arg(long)]
    node: i32,
    /// Its server.properties
    #[arg(long)]
    file: PathBuf,
    /// Where the names of what aesop has set are kept
    #[arg(long)]
    record: PathBuf,
    /// What it does not take in yet
    #[arg(long)]
    except: Vec<String>,
    /// Users and their passwords, as JSON
    #[arg(long, requires = "users_record")]
    users: Option<PathBuf>,
    /// Where the names of users that aesop has made are kept
    #[arg(long)]
    users_record: Option<PathBuf>,
}

pub(super) async fn run(args: &Args, cx: &Context) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(&args.file)
        .with_context(|| format!("cannot read {}", args.file.display()))?;
    let mut wanted = parse(&text);
    let now = |name: &String| dynamic_setting(name) && !args.except.contains(name);
    wanted.retain(|name, _| now(name));
    let mut ours = names(&args.record)?;
    let mut admin = Admin::at(&args.bootstrap).await?;
    let mut described = admin.settings(args.node).await?;
    described.retain(|name, _| now(name));
    let changes = changes(&wanted, &described, &ours);
    // Noted before it happens: a name too many costs nothing, one that is missing would never be taken back.
    ours.extend(changes.iter().filter_map(|change| match change {
        Change::Set(name, _) => Some(name.clone()),
        Change::Unset(_) => None,
    }));
    write(&args.record, &ours)?;
    if !changes.is_empty() {
        admin.alter_settings(args.node, &changes).await?;
    }
    for change in &changes {
        match change {
            Change::Set(name, value) => cx.out.data(format!("{name}={value}"))?,
            Change::Unset(name) => {
                ours.remove(name);
                cx.out.data(format!("{name} as the file says"))?;
            }
        }
    }
    write(&args.record, &ours)?;
    if let (Some(users), Some(record)) = (&args.users, &args.users_record) {
        set_users(&mut at_controller(&args.bootstrap).await?, users, record).await?;
    }
    Ok(())
}

/// Users are made by who answers for the cluster. A broker on ZooKeeper that has just started for the first time may hear
/// of the controller a moment later.
async fn at_controller(bootstrap: &str) -> Result<Admin, AdminError> {
    let begun = SystemClock.instant();
    loop {
        match Admin::connect(&[bootstrap.to_owned()]).await {
            Err(_) if begun.elapsed() < CONTROLLER_WITHIN => tokio::time::sleep(ASK_EVERY).await,
            answer => return answer,
        }
    }
}

/// Passwords as the file says; users that aesop has made and that are not in it any more are taken away.
async fn set_users(admin: &mut Admin, users: &Path, record: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(users).with_context(|| format!("cannot read {}", users.display()))?;
    let wanted: BTreeMap<String, String> = serde_json::from_str(&text)
        .map_err(|_| anyhow::anyhow!("{} is not what aesop writes", users.display()))?;
    let wanted: BTreeMap<String, Secret> =
        wanted.into_iter().map(|(name, password)| (name, Secret::new(password))).collect();
    let mut ours = names(record)?;
    let gone = ours.iter().filter(|name| !wanted.contains_key(*name)).cloned().collect();
    ours.extend(wanted.keys().cloned());
    write(record, &ours)?;
    admin.set_users(&wanted, &gone).await?;
    write(record, &wanted.into_keys().collect())
}

fn names(record: &Path) -> anyhow::Result<BTreeSet<String>> {
    match std::fs::read_to_string(record) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", record.display())),
    }
}

fn write(path: &Path, names: &BTreeSet<String>) -> anyhow::Result<()> {
    let text = names.iter().fold(String::new(), |text, name| text + name + "\n");
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
