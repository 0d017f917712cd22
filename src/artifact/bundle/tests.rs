//! From one machine's artifacts to another's, which has nothing but the bundle and the program.

use super::*;
use crate::artifact::Store;
use crate::inventory::model::{ExtraArtifact, FileOrigin};
use crate::service::{Origin, WantedArtifact};

/// Two machines: one with all programs and a file, one with the program alone.
struct Machines {
    folder: tempfile::TempDir,
}

impl Machines {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (machine, programs) in
            [("here", &["aesop", "aesop-relay", "aesop-consumer"][..]), ("there", &["aesop"][..])]
        {
            let bin = folder.path().join(machine).join("bin");
            std::fs::create_dir_all(&bin).unwrap();
            for program in programs {
                std::fs::write(bin.join(program), format!("the program {program}")).unwrap();
            }
        }
        std::fs::write(folder.path().join("here/exporter"), "exporter 1").unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn wanted(&self) -> Vec<WantedArtifact> {
        let known = |name: &str| WantedArtifact { name: name.to_owned(), origin: Origin::Known };
        let own = |path: &str| WantedArtifact {
            name: format!("extra/x{path}"),
            origin: Origin::Own(ExtraArtifact {
                path: path.to_owned(),
                name: path.rsplit('/').next().unwrap().to_owned(),
                origin: FileOrigin::File { path: self.path("here/exporter"), sha512: None },
                executable: true,
            }),
        };
        // The same content by two names.
        vec![
            known("aesop"),
            known("aesop-relay"),
            known("aesop-consumer"),
            own("/opt/x/exporter"),
            own("/opt/x/other"),
        ]
    }

    fn here(&self) -> Store {
        Store::open_in(self.path("here/cache"), self.path("here/bin"), &self.wanted()).unwrap()
    }

    fn bundle(&self, name: &str) -> PathBuf {
        let store = self.here();
        let pieces = store
            .ids()
            .0
            .values()
            .map(|artifact| (artifact.id.clone(), store.fetch(artifact, &|_, _| ()).unwrap()));
        let file = self.path(name);
        let bytes = store.bundle("shop", &pieces.collect(), &file).unwrap();
        assert_eq!(bytes, file.metadata().unwrap().len());
        file
    }

    fn there(&self, bundle: &Path, wanted: &[WantedArtifact]) -> Result<Store, String> {
        Store::from_bundle_in(self.path("there/cache"), self.path("there/bin"), bundle, wanted)
            .map_err(|error| error.to_string())
    }
}

#[test]
fn another_machine_has_the_same_artifacts() {
    let machines = Machines::new();
    let bundle = machines.bundle("shop.bundle");
    let here = machines.here();
    // Nothing of it is needed there any more.
    let wanted = machines.wanted();
    let expected: BTreeMap<String, Vec<Vec<u8>>> = contents(&here);
    for file in ["here/exporter", "here/bin/aesop-relay", "here/bin/aesop-consumer"] {
        std::fs::remove_file(machines.path(file)).unwrap();
    }
    for _twice in 0..2 {
        let there = machines.there(&bundle, &wanted).unwrap();
        assert_eq!(there.ids().0, here.ids().0);
        assert_eq!(contents(&there), expected);
    }
    let pieces = |store: &Store| {
        let pieces = store.ids().0.values().flat_map(|a| store.fetch(a, &|_, _| ()).unwrap());
        pieces.map(|piece| (piece.name, piece.sha512, piece.executable)).collect::<Vec<_>>()
    };
    assert!(pieces(&machines.there(&bundle, &wanted).unwrap()).iter().all(|(_, _, executable)| *executable));
}

fn contents(store: &Store) -> BTreeMap<String, Vec<Vec<u8>>> {
    let read = |artifact: &ArtifactRef| {
        let pieces = store.fetch(artifact, &|_, _| ()).unwrap();
        pieces.iter().map(|piece| std::fs::read(&piece.path).unwrap()).collect()
    };
    store.ids().0.iter().map(|(name, artifact)| (name.clone(), read(artifact))).collect()
}

#[test]
fn the_same_artifacts_give_the_same_bytes() {
    let machines = Machines::new();
    let (one, two) = (machines.bundle("one"), machines.bundle("two"));
    assert_eq!(std::fs::read(one).unwrap(), std::fs::read(two).unwrap());
}

/// The user unpacks the programs with tar.
#[test]
fn programs_are_under_bin() {
    let machines = Machines::new();
    let bundle = machines.bundle("shop.bundle");
    let mut archive = tar::Archive::new(File::open(bundle).unwrap());
    let entries = archive.entries().unwrap().map(Result::unwrap);
    let programs: Vec<(String, u32)> = entries
        .map(|entry| (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap()))
        .filter(|(path, _)| path.starts_with("bin/"))
        .collect();
    let expected = ["bin/aesop", "bin/aesop-consumer", "bin/aesop-relay"];
    assert_eq!(programs, expected.map(|path| (path.to_owned(), 0o755)));
}

#[test]
fn what_is_missing_is_named() {
    let machines = Machines::new();
    let bundle = machines.bundle("shop.bundle");
    let mut wanted = machines.wanted();
    for name in ["kafka-4.2.0", "jolokia-2.6.0"] {
        wanted.push(WantedArtifact { name: name.to_owned(), origin: Origin::Known });
    }
    let error = machines.there(&bundle, &wanted).unwrap_err();
    assert!(error.contains("lacks kafka-4.2.0, jolokia-2.6.0; make it anew"), "{error}");

    // Another file than the one that was packed is wanted by its checksum.
    let mut wanted = machines.wanted();
    let Some(WantedArtifact { origin: Origin::Own(own), .. }) = wanted.last_mut() else { panic!() };
    own.origin = FileOrigin::Url { url: "https://example.com/x".to_owned(), sha512: "0".repeat(128) };
    let error = machines.there(&bundle, &wanted).unwrap_err();
    assert!(error.contains("lacks extra/x/opt/x/other as it is wanted"), "{error}");
}

#[test]
fn another_build_of_aesop_is_told_to_use_the_one_inside() {
    let machines = Machines::new();
    let bundle = machines.bundle("shop.bundle");
    std::fs::write(machines.path("there/bin/aesop"), "another").unwrap();
    let error = machines.there(&bundle, &machines.wanted()).unwrap_err();
    assert!(error.contains("another build of aesop") && error.contains("tar -xf"), "{error}");
}

/// Wherever a byte is changed or the end is cut off, nothing wrong gets into the cache.
#[test]
fn damage_is_found() {
    let machines = Machines::new();
    let bundle = machines.bundle("shop.bundle");
    let good = std::fs::read(&bundle).unwrap();
    let text = String::from_utf8_lossy(&good);
    let program = text.find("the program aesop-relay").unwrap();
    let mut damaged = good.clone();
    damaged[program] ^= 1;
    for (bytes, expected) in [
        (damaged, "is damaged: aesop-relay has sha512"),
        (good[..program + 5].to_vec(), "copy it again"),
        (good[..program - 600].to_vec(), "copy it again"),
        (good[..100].to_vec(), "is no bundle"),
        (b"cluster: shop\n".repeat(100), "is no bundle"),
        (Vec::new(), "is no bundle"),
    ] {
        std::fs::write(&bundle, bytes).unwrap();
        let error = machines.there(&bundle, &machines.wanted()).unwrap_err();
        assert!(error.contains(expected), "{error}");
        let kept = machines.path("there/cache/sha512");
        let relay = crate::artifact::sha512(&machines.path("here/bin/aesop-relay")).unwrap();
        assert!(!kept.join(relay).join("aesop-relay").exists());
    }
}

#[test]
fn a_newer_form_is_refused_by_name() {
    let machines = Machines::new();
    let bundle = machines.path("new.bundle");
    let text = br#"{"format": 2, "aesop": "9.1.0", "new": true}"#;
    let mut builder = tar::Builder::new(File::create(&bundle).unwrap());
    builder.append_data(&mut header(0o644, u64::try_from(text.len()).unwrap()), MANIFEST, &text[..]).unwrap();
    builder.finish().unwrap();
    let error = machines.there(&bundle, &machines.wanted()).unwrap_err();
    assert!(error.contains("was made by aesop 9.1.0, which this one is too old to read"), "{error}");
}
