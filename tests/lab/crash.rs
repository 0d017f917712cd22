//! Kills and restarts of every part under traffic; then Kafka must equal the database, and nothing may have been read
//! again from the start.

use crate::cluster::{Cluster, cluster, wait};
use std::sync::Arc;

/// Everything is killed once, or `AESOP_CRASH_ROUNDS` times.
pub(crate) fn nothing_is_lost_in_a_crash() {
    let cluster = cluster();
    cluster.sell(300);
    cluster.kafka_equals_select();
    let rounds =
        std::env::var("AESOP_CRASH_ROUNDS").map_or(1, |rounds| rounds.parse().expect("a number of rounds"));
    cluster.sell_while(|| (0..rounds).for_each(|_| crash_everything(&cluster)));
    for fold in cluster.kafka_equals_select() {
        // A crash repeats what was not yet checkpointed; a full re-read would repeat everything before it.
        let (repeats, messages) = (fold.repeats(), fold.messages());
        assert!(repeats * 2 < messages, "{repeats} of {messages} rows were repeated");
    }
}

fn crash_everything(cluster: &Arc<Cluster>) {
    kill(cluster, "relay1", "aesop-relay");
    progress(cluster);
    kill(cluster, "consumer1", "aesop-consumer@kafka-json");
    progress(cluster);
    for database in ["db1", "db2"] {
        cluster.host(database).restart_database().expect("the database restarts");
        progress(cluster);
    }
    cluster.host("kafka3").run(&["systemctl", "stop", "aesop-kafka"]).expect("the broker stops");
    progress(cluster);
    cluster.host("kafka3").run(&["systemctl", "start", "aesop-kafka"]).expect("the broker starts");
    progress(cluster);
}

fn kill(cluster: &Cluster, host: &str, unit: &str) {
    cluster.host(host).run(&["systemctl", "kill", "--signal=KILL", unit]).expect("killed");
}

/// Waits until rows written after now are checkpointed for both sources.
fn progress(cluster: &Arc<Cluster>) {
    let scns = |cluster: &Cluster| {
        ["shop", "store"].map(|source| {
            let generation = cluster.znode_children("/aesop/story/groups/kafka-json/checkpoints").pop()?;
            let path = format!("/aesop/story/groups/kafka-json/checkpoints/{generation}/{source}/0");
            cluster.znode_json(&path)?["commit_time_us"].as_i64()
        })
    };
    let (steps, before) = ([cluster.steps(0), cluster.steps(1)], scns(cluster));
    wait("traffic and checkpoints of both sources to go on", || {
        let after = scns(cluster);
        let on = |index: usize| after[index] > before[index] && cluster.steps(index) > steps[index] + 5;
        (on(0) && on(1)).then_some(())
    });
}
