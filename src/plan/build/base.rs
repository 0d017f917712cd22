//! What all roles of a host stand on.

use super::{Action, BTreeSet, HostPlan, Role, Step, Work, directory_value};

impl HostPlan<'_> {
    /// Packages, users, directories and artifacts of all roles, and aesop itself: nothing that a running service
    /// notices.
    pub(super) fn base(&mut self) {
        let mut steps = Vec::new();
        let parts = &self.state.parts;
        let packages: BTreeSet<&str> = parts
            .iter()
            .flat_map(|part| &part.packages)
            .filter(|package| !self.facts.stats.contains_key(&package.unless))
            .map(|package| package.on(&self.facts.os))
            .filter(|name| !self.facts.packages.contains_key(*name))
            .collect();
        if !packages.is_empty() {
            let packages = packages.into_iter().map(str::to_owned).collect();
            steps.push(Step::plain(Action::InstallPackages(packages)));
        }
        let mut users = BTreeSet::new();
        for user in parts.iter().flat_map(|part| &part.users) {
            if !self.facts.users.contains(&user.name) && users.insert(&user.name) {
                steps.push(Step::plain(Action::CreateUser {
                    name: user.name.clone(),
                    home: user.home.clone(),
                }));
            }
        }
        for directory in parts.iter().flat_map(|part| &part.directories) {
            if !self.seen.insert(&directory.path) {
                continue;
            }
            let mode = format!("{:o}", directory.mode);
            let stat = self.facts.stats.get(&directory.path);
            let good = stat.is_some_and(|stat| {
                stat.kind == "directory"
                    && stat.mode == mode
                    && stat.owner == directory.owner
                    && stat.group == directory.group
            });
            if let (false, Some(stat)) = (good, stat) {
                let found = directory_value(&stat.mode, &stat.owner, &stat.group);
                self.drifted(&directory.path, &found, "another mode or owner");
            }
            if !good {
                steps.push(Step::plain(Action::SetDirectory {
                    path: directory.path.clone(),
                    mode,
                    owner: directory.owner.clone(),
                    group: directory.group.clone(),
                    exists: stat.is_some(),
                }));
            }
        }
        let artifacts: BTreeSet<_> = parts.iter().flat_map(|part| &part.artifacts).collect();
        let missing = artifacts.into_iter().filter(|artifact| !self.facts.artifacts.contains(&artifact.id));
        steps.extend(missing.map(|artifact| Step::plain(Action::SendArtifact(artifact.clone()))));
        for part in parts.iter().filter(|part| part.role == Role::Base) {
            let files = self.files(part);
            let sysctl = files.iter().find_map(|step| {
                let Action::WriteFile { path, .. } = step.action() else { return None };
                path.starts_with("/etc/sysctl.d/").then(|| path.clone())
            });
            steps.extend(files);
            steps.extend(sysctl.map(|path| Step::plain(Action::ApplySysctl(path))));
            steps.extend(self.links(part));
        }
        if !steps.is_empty() {
            self.works.push(Work {
                role: Role::Base,
                service: Role::Base.word().to_owned(),
                prepare: steps,
                start: Vec::new(),
                restart: Vec::new(),
                confirm: Vec::new(),
                gate: None,
                put_back: Vec::new(),
                turn: None,
            });
        }
    }
}
