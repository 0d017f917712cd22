//! Where everything is kept. No other file of aesop spells a znode path.

/// Paths below `/aesop/<cluster>`.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    root: String,
}

impl Paths {
    pub(super) fn new(cluster: &str) -> Self {
        Self { root: format!("/aesop/{cluster}") }
    }

    pub(super) fn relays_root(&self) -> String {
        format!("{}/relays", self.root)
    }

    pub(super) fn relays(&self, source: &str) -> String {
        format!("{}/relays/{source}", self.root)
    }

    pub(super) fn relay(&self, source: &str, id: &str) -> String {
        format!("{}/relays/{source}/{id}", self.root)
    }

    pub(super) fn sources(&self) -> String {
        format!("{}/sources", self.root)
    }

    pub(super) fn epochs(&self, source: &str) -> String {
        format!("{}/sources/{source}/epochs", self.root)
    }

    pub(super) fn epoch(&self, source: &str, epoch: u32) -> String {
        format!("{}/sources/{source}/epochs/{epoch}", self.root)
    }

    pub(super) fn reads(&self, source: &str) -> String {
        format!("{}/sources/{source}/read", self.root)
    }

    pub(super) fn read(&self, source: &str, relay: &str) -> String {
        format!("{}/sources/{source}/read/{relay}", self.root)
    }

    pub(super) fn groups(&self) -> String {
        format!("{}/groups", self.root)
    }

    pub(super) fn group(&self, group: &str) -> GroupPaths {
        GroupPaths { root: format!("{}/groups/{group}", self.root) }
    }
}

/// Paths below `/aesop/<cluster>/groups/<group>`.
#[derive(Clone, Debug)]
pub(super) struct GroupPaths {
    root: String,
}

impl GroupPaths {
    pub(super) fn members(&self) -> String {
        format!("{}/members", self.root)
    }

    pub(super) fn member(&self, id: &str) -> String {
        format!("{}/members/{id}", self.root)
    }

    pub(super) fn leader(&self) -> String {
        format!("{}/leader", self.root)
    }

    pub(super) fn assignment(&self) -> String {
        format!("{}/assignment", self.root)
    }

    pub(super) fn owners(&self) -> String {
        format!("{}/owners", self.root)
    }

    pub(super) fn owner(&self, partition: u32) -> String {
        format!("{}/owners/{partition}", self.root)
    }

    pub(super) fn epochs(&self) -> String {
        format!("{}/epochs", self.root)
    }

    pub(super) fn epoch(&self, partition: u32) -> String {
        format!("{}/epochs/{partition}", self.root)
    }

    pub(super) fn checkpoints(&self) -> String {
        format!("{}/checkpoints", self.root)
    }

    pub(super) fn generation(&self, generation: u64) -> String {
        format!("{}/checkpoints/{generation}", self.root)
    }

    pub(super) fn source(&self, generation: u64, source: &str) -> String {
        format!("{}/checkpoints/{generation}/{source}", self.root)
    }

    pub(super) fn checkpoint(&self, generation: u64, source: &str, partition: u32) -> String {
        format!("{}/checkpoints/{generation}/{source}/{partition}", self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    /// The paths are a contract: other tools read them.
    #[test]
    fn paths_stay() {
        let paths = Paths::new("shop");
        let group = paths.group("kafka-json");
        let all = [
            paths.relay("orders", "r1"),
            paths.epoch("orders", 2),
            group.member("c1"),
            group.leader(),
            group.assignment(),
            group.owner(7),
            group.epoch(7),
            group.checkpoint(1, "orders", 7),
        ];
        expect![[r"
            /aesop/shop/relays/orders/r1
            /aesop/shop/sources/orders/epochs/2
            /aesop/shop/groups/kafka-json/members/c1
            /aesop/shop/groups/kafka-json/leader
            /aesop/shop/groups/kafka-json/assignment
            /aesop/shop/groups/kafka-json/owners/7
            /aesop/shop/groups/kafka-json/epochs/7
            /aesop/shop/groups/kafka-json/checkpoints/1/orders/7"]]
        .assert_eq(&all.join("\n"));
    }
}
