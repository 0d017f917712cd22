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
