//! ZooKeeper's ensemble: its members, who of them leads, whether one may stop.

mod change;
mod config;
pub mod gate;
pub mod members;
mod words;

pub use change::{Change, change};
pub use config::write;
pub use words::{Standing, standing};

use std::collections::BTreeMap;
use std::path::Path;

/// What this host's ZooKeeper knows of its ensemble: its own `myid`, and the members of its dynamic file. Blocks.
pub fn local(data_dir: &Path) -> Result<(u32, BTreeMap<u32, members::Server>), String> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let path = data_dir.join("myid");
    let myid = read(&path)?;
    let myid = myid.trim().parse().map_err(|_| format!("{} holds no number", path.display()))?;
    let config = read(&data_dir.join("conf/zoo.cfg"))?;
    let pointer = config.lines().find_map(|line| line.strip_prefix("dynamicConfigFile="));
    let pointer = pointer.ok_or("zoo.cfg names no dynamic file yet")?;
    Ok((myid, members::parse(&read(Path::new(pointer))?)))
}

/// Asks all members at once how they stand.
pub async fn ask(servers: BTreeMap<u32, members::Server>) -> gate::Members {
    let asked = servers.into_iter().map(|(id, server)| async move {
        let standing = standing(&server.client()).await;
        (id, (server, standing))
    });
    futures_util::future::join_all(asked).await.into_iter().collect()
}
