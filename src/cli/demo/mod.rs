//! `aesop demo`: the whole thing on lab hosts on this machine, from nothing, by the same commands a user types.

mod home;
mod hosts;
mod rows;
mod traffic;

use super::{Context, Exit};
use anyhow::Context as _;
use home::Home;
use hosts::Hosts;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the shop's customers keep buying, and the demo watching.
const TRAFFIC: Duration = Duration::from_secs(10);
/// How long a row may take from the database to Kafka before the demo calls that a failure.
const ROWS_PATIENCE: Duration = Duration::from_mins(2);
/// How long a mail may take to the mailbox.
const MAIL_PATIENCE: Duration = Duration::from_mins(1);

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Action {
    /// Prints shell assignments to work with the running demo: `eval "$(aesop demo env)"`
    Env,
    /// Adds one more host to the lab of the running demo; the inventory is then yours to edit
    AddHost {
        /// Its name
        name: String,
    },
    /// Removes the demo: its hosts, their disks, their network
    Down,
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let home = Home::find();
    match args.action {
        None => up(&home, cx).await,
        Some(Action::Env) => {
            cx.out.raw(home.running()?.shell())?;
            Ok(Exit::Done)
        }
        Some(Action::AddHost { name }) => add_host(&home, cx, name).await,
        Some(Action::Down) => {
            hosts::down().await?;
            home.remove()?;
            cx.out.note("the demo is gone");
            Ok(Exit::Done)
        }
    }
}

async fn up(home: &Home, cx: &Context) -> anyhow::Result<Exit> {
    if let Ok(env) = home.running() {
        cx.out.data("The demo is running already; `aesop demo down` removes it.\n")?;
        cx.out.data(next_steps(&env))?;
        return Ok(Exit::Done);
    }
    let started = Instant::now();
    let step = |number: u8, title: &str| {
        cx.out.data(format_args!("\n[{number}/7] {title}  ({:.0} s)", started.elapsed().as_secs_f64()))
    };

    step(1, "Hosts: one systemd machine each, on a network of their own")?;
    // What an interrupted demo left behind would be in the way.
    hosts::down().await?;
    home.remove()?;
    let out = cx.out;
    let hosts = Hosts::boot(home, move |line| out.note(format_args!("  {line}"))).await?;

    step(2, "A MariaDB server with a shop in it")?;
    let reader_password = home.write_reader_password()?;
    traffic::open_shop(&hosts.database, &reader_password).await?;
    cx.out
        .data(format_args!("  shop.customers, shop.orders, shop.order_lines on {}", hosts.database.host))?;

    step(3, "The inventory, and what aesop would do about it")?;
    let inventory = home.inventory();
    aesop(cx, &inventory, &["check"]).await?;
    // The first plan is a thousand lines of new files; its schedule is what one reads.
    aesop(cx, &inventory, &["plan", "--summary"]).await?;

    step(4, "Deploy: ZooKeeper, Kafka, relay, consumers, agents, monitor")?;
    aesop(cx, &inventory, &["apply", "--yes"]).await?;

    step(5, "Customers buy; their rows arrive in Kafka")?;
    let env = hosts.env(home)?;
    let written = traffic::sell(&hosts.database, TRAFFIC).await?;
    cx.out.data(format_args!("  {written} transactions written"))?;
    for line in rows::arrived(env.kafka_bootstrap.clone(), ROWS_PATIENCE).await? {
        cx.out.data(line)?;
    }

    step(6, "How it is")?;
    aesop(cx, &inventory, &["status"]).await?;
    aesop(cx, &inventory, &["lag"]).await?;

    step(7, "The lag mail that comes every hour, sent now")?;
    aesop(cx, &inventory, &["lag", "--email"]).await?;
    cx.out.data(home::mail(Path::new(&env.mailbox), "lag", MAIL_PATIENCE).await?)?;

    home.write_env(&env)?;
    cx.out
        .data(format_args!("\nDone in {:.0} s. The cluster is yours:\n", started.elapsed().as_secs_f64()))?;
    cx.out.data(next_steps(&env))?;
    Ok(Exit::Done)
}

/// Runs `aesop` as the user would, and shows what was typed.
async fn aesop(cx: &Context, inventory: &Path, args: &[&str]) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    cx.out.data(format_args!("\n$ aesop -i {} {}", inventory.display(), args.join(" ")))?;
    let status = tokio::process::Command::new(program)
        .arg("-i")
        .arg(inventory)
        .args(args)
        .stdin(std::process::Stdio::null())
        .status()
        .await
        .context("cannot run aesop again")?;
    anyhow::ensure!(
        status.success(),
        "`aesop {}` failed; the hosts are left as they are: look at them, then `aesop demo down`",
        args.join(" ")
    );
    Ok(())
}

async fn add_host(home: &Home, cx: &Context, name: String) -> anyhow::Result<Exit> {
    let env = home.running()?;
    let address = hosts::add(home, name.clone()).await?;
    cx.out.data(format_args!(
        "{name} answers at {address}. Now add to {}:\n\n  under hosts:                  {name}: {{address: {address}}}\n  under \
         consumers/kafka-json: hosts: [consumer1, consumer2, {name}]\n\nthen\n\n  aesop -i {} apply",
        env.inventory, env.inventory
    ))?;
    Ok(Exit::Done)
}

fn next_steps(env: &home::Env) -> String {
    let inventory = &env.inventory;
    let program = std::env::current_exe().unwrap_or_else(|_| "aesop".into());
    format!(
        "  alias aesop={program}
  eval \"$(aesop demo env)\"             # KAFKA_BOOTSTRAP, MYSQL_HOST, MAILBOX, … in your shell

  Change a row yourself, and see it with its old and new values:
    MYSQL_PWD=$MYSQL_PASSWORD mariadb -h $MYSQL_HOST -u $MYSQL_USER shop -e \"UPDATE orders SET status = 'cancelled' WHERE id = 2\"
    kcat -C -e -q -b $KAFKA_BOOTSTRAP -t shop.shop.orders | tail -n 1
  Add a host:
    aesop demo add-host consumer3         # boots it and says which lines to add to the inventory
    aesop -i {inventory} apply
  Stop a broker, and read the alert in the mailbox within two minutes; start it again for the resolved mail:
    aesop -i {inventory} exec --on kafka2 -- systemctl stop aesop-kafka
    ls {mailbox}
  Look at the status page: {monitor}
  Remove everything: aesop demo down",
        program = program.display(),
        mailbox = env.mailbox,
        monitor = env.monitor_url,
    )
}
