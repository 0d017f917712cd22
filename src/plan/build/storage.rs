//! Storage of Kafka's nodes: made at first, not again unless somebody has said that it is lost, and never somebody
//! else's.

use super::brokers::{EMPTY_SECS, UNIT};
use super::{Action, HostPlan, Part, Step, View, refuse};
use crate::inventory::model::KafkaMode;
use crate::kafka::gate::may_lose_disk;
use crate::service::{Gate, Init, KafkaFormat, KafkaMember};

impl HostPlan<'_> {
    /// Puts in what makes the storage of a node that has none; looks at what it keeps itself where it has some.
    pub(super) fn storage(&mut self, part: &Part, prepare: &mut Vec<Step>) {
        let Some(init) = &part.init else { return };
        if refuse::moves_metadata(part, self.facts).is_some() {
            return;
        }
        let known = |path: &&str| self.facts.ids.contains_key(*path);
        if init.markers().iter().any(known) {
            self.check_storage(init, part.broker.as_ref());
            return;
        }
        let was = Was {
            active: self.facts.units.get(UNIT).is_some_and(|unit| unit.active == "active"),
            started: self.facts.records.contains_key(UNIT),
            lives: self.kafka_lives,
        };
        let steps = match (init, &part.broker) {
            (_, Some(member)) => format(self.name, init, member, self.view, was),
            // As an earlier aesop has kept it.
            (Init::KafkaFormat(format), None) => Ok(vec![Step::plain(Action::FormatKafka(format.clone()))]),
            (Init::KafkaMark(_), None) => Ok(Vec::new()),
        };
        match steps {
            Ok(steps) => {
                // A mark is a file, and says that there is data: not before the others have all of it.
                let at = if matches!(init, Init::KafkaMark(_)) { 0 } else { prepare.len() };
                prepare.splice(at..at, steps);
            }
            Err(why) => self.refused.push(why),
        }
    }

    /// Kafka's metadata would have to move between ZooKeeper and controllers.
    pub(super) fn moves_metadata(&self) -> bool {
        self.state.parts.iter().any(|part| refuse::moves_metadata(part, self.facts).is_some())
    }

    /// Data of another cluster, of another node or of another mode is of no use.
    fn check_storage(&mut self, init: &Init, member: Option<&KafkaMember>) {
        let (path, (key, other)) = match init {
            Init::KafkaFormat(format) => (&format.marker, ("node.id=", "broker.id=")),
            Init::KafkaMark(mark) => (&mark.properties, ("broker.id=", "node.id=")),
        };
        let Some(properties) = self.facts.ids.get(path) else { return };
        let value = |key: &str| properties.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let place = path.trim_end_matches("/meta.properties");
        if value(other).is_some() && value(key).is_none() {
            self.refused.push(format!(
                "{}: {path} is of a broker that kept its metadata elsewhere, in ZooKeeper or with controllers; another version does not take it over. Move {place} away",
                self.name
            ));
            return;
        }
        if let (Init::KafkaFormat(format), Some(found)) = (init, value("cluster.id="))
            && found != format.cluster_id
        {
            self.refused.push(format!(
                "{}: {path} says Kafka cluster {found}, the lock file says {}; the broker will refuse to start. Bring the right lock file, or move the old data away",
                self.name, format.cluster_id
            ));
        }
        // Data of a broker that left stays on its host; a new one there has another id.
        if let (Some(member), Some(found)) = (member, value(key))
            && found != member.id.to_string()
        {
            self.refused.push(format!(
                "{}: {path} is of node {found}, and the lock file says {}; ids are never used again. If this was a broker that has left the cluster, its data is of no use: move {place} away",
                self.name, member.id
            ));
        }
    }
}

/// How a node's storage was.
#[derive(Clone, Copy, Debug)]
struct Was {
    /// The node was started on its host before.
    started: bool,
    /// It runs.
    active: bool,
    /// There may be a cluster that somebody has written to.
    lives: bool,
}

/// How the storage of a node is made that has none: at first as it is, later only where somebody has said that its data
/// is gone, and the others have all of it.
fn format(
    host: &str,
    init: &Init,
    member: &KafkaMember,
    view: Option<&View>,
    was: Was,
) -> Result<Vec<Step>, String> {
    let empty = empty_disk(host, init, member, view, was)?;
    let Init::KafkaFormat(format) = init else {
        // The broker makes it itself when it starts.
        return Ok(empty.into_iter().collect());
    };
    let Some(gate) = empty else {
        // Whoever comes later joins the controllers that there are, and must not think that it founds them.
        let founds = member.forming || !was.lives;
        let initial_controllers = format.initial_controllers.clone().filter(|_| founds);
        let format = KafkaFormat { initial_controllers, ..format.clone() };
        return Ok(vec![Step::plain(Action::FormatKafka(format))]);
    };
    // With its former vote it could vote twice: it begins without one.
    let anew = KafkaFormat { initial_controllers: None, ..format.clone() };
    let reason = Some("its disk was lost".to_owned());
    Ok(vec![gate, Step::because(Action::FormatKafka(anew), reason)])
}

/// What must hold before a node starts with nothing, where it has lived before.
fn empty_disk(
    host: &str,
    init: &Init,
    member: &KafkaMember,
    view: Option<&View>,
    was: Was,
) -> Result<Option<Step>, String> {
    let id = member.id;
    let votes = |view: &View| view.quorum.voters.iter().any(|voter| voter.id == id);
    let known = view.is_some_and(|view| view.brokers.contains_key(&id) || !member.forming && votes(view));
    if !was.started && !known {
        return Ok(None);
    }
    let what = if member.address.is_some() { "broker" } else { "controller" };
    let marker = init.markers().last().copied().unwrap_or_default();
    let gone = format!("{host}: {marker} is not there, and {what} {id} has lived on this host");
    if !member.lost_disk {
        return Err(format!(
            "{gone}: its disk was lost, replaced or not mounted. Mount it; or, if its data is gone for good, say so with `aesop lost-disk {host} kafka`: the next apply gives it an empty one, and it copies all from the other brokers"
        ));
    }
    if was.active {
        return Err(format!("{gone}; it runs still. Stop it first: `aesop stop kafka --on {host}`"));
    }
    let Some(view) = view else {
        return Err(format!(
            "{gone}, and no other broker answers the question whether they have all that it had. Start them first: `aesop start kafka`"
        ));
    };
    may_lose_disk(view, id).map_err(|error| {
        format!("{gone}: {error}. Bring its disk back, or wait until the others are in sync")
    })?;
    let others: Vec<&str> = view
        .brokers
        .iter()
        .filter(|(_, broker)| !broker.fenced)
        .map(|(_, broker)| broker.address.as_str())
        .collect();
    let test = ["kafka-lost", "--bootstrap", &others.join(","), "--node", &id.to_string()];
    let gate = Gate {
        unit: UNIT.to_owned(),
        test: test.map(str::to_owned).to_vec(),
        words: match member.mode {
            KafkaMode::Kraft => "the others have every partition in sync, and a majority of the controllers",
            KafkaMode::ZooKeeper => "the others have every partition in sync",
        }
        .to_owned(),
        timeout_secs: EMPTY_SECS,
        ..Gate::default()
    };
    Ok(Some(Step::plain(Action::AwaitStop(gate))))
}
