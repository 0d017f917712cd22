//! One line in the inventory adds a consumer host.

use crate::cluster::{Cluster, cluster, wait};
use aesop::lab::HostSpec;

/// The plan touches that host and the monitor's list, and the group takes it in.
pub(crate) fn a_host_is_added_by_a_line() {
    let cluster = cluster();
    cluster.lab.add(&HostSpec::new("consumer3"), &|_| ()).expect("one more host");
    cluster.write_inventory(&["consumer1", "consumer2", "consumer3"]);
    let plan = cluster.aesop(&["plan", "--exit-code"]);
    let text = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert_eq!(plan.status.code(), Some(3), "{text}");
    for untouched in ["kafka1", "kafka2", "kafka3", "relay1", "consumer1", "consumer2"] {
        assert!(!text.contains(&format!("a/{untouched}/")), "the plan touches {untouched}:\n{text}");
    }
    let others = ["kafka1", "kafka2", "kafka3", "relay1", "consumer1", "consumer2"];
    let before = cluster.pids(&others);
    cluster.aesop_ok(&["apply", "--yes"]);
    assert_eq!(cluster.pids(&others), before, "nothing else was restarted");
    wait("consumer3 to own partitions", || {
        let assignment = cluster.znode_json("/aesop/story/groups/kafka-json/assignment")?;
        assignment["owners"].as_object()?.values().any(|owner| owner == "consumer3").then_some(())
    });
    cluster.sell(50);
    cluster.kafka_equals_select();
    assert_eq!(cluster.aesop(&["plan", "--exit-code"]).status.code(), Some(0));
    a_lost_lock_file_comes_back_from_the_hosts(&cluster);
}

fn a_lost_lock_file_comes_back_from_the_hosts(cluster: &Cluster) {
    let (lock, aside) = (cluster.path("story.lock"), cluster.path("aside.lock"));
    std::fs::rename(&lock, &aside).expect("the lock file is lost");
    cluster.aesop_ok(&["recover-lock"]);
    let read = |path| std::fs::read_to_string(path).expect("a lock file");
    assert_eq!(read(lock), read(aside));
}
