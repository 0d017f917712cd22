//! The arrows of ARCHITECTURE.md, read from the sources: who may use what. Each rule has a line that trips it.

use std::fs;
use std::path::{Path, PathBuf};

/// A rule: in files of `scope` but not of `except`, no code line has one of `forbidden`.
struct Rule {
    name: &'static str,
    scope: &'static [&'static str],
    except: &'static [&'static str],
    forbidden: &'static [&'static str],
    /// A line that breaks it.
    breaks: &'static str,
    /// A line that looks like it and does not.
    keeps: &'static str,
}

/// Modules that only compute.
const PURE: &[&str] = &[
    "src/import/",
    "src/inventory/",
    "src/kafka/gate.rs",
    "src/kafka/quorum.rs",
    "src/kafka/moves.rs",
    "src/kafka/raise.rs",
    "src/kafka/settings.rs",
    "src/kafka/view.rs",
    "src/plan/",
    "src/preflight/",
    "src/render.rs",
    "src/render/",
    "src/rule/",
    "src/service/",
    "src/lock/",
];

const RULES: &[Rule] = &[
    Rule {
        name: "pure modules know no runtime and no network",
        scope: PURE,
        except: &[],
        forbidden: &[
            "tokio",
            "reqwest::",
            "lettre::",
            "openssh::",
            "rdkafka::",
            "zookeeper::Client",
            "mysql_async::",
            "std::net::Tcp",
            "std::net::Udp",
        ],
        breaks: "use tokio::time::sleep;",
        keeps: "use crate::inventory::model::Inventory;",
    },
    Rule {
        name: "pure modules start no process and no thread",
        scope: PURE,
        except: &[],
        forbidden: &["std::process", "std::thread", "Command::new"],
        breaks: "let child = std::process::Command::new(\"ls\");",
        keeps: "let steps = process(plan);",
    },
    Rule {
        name: "pure modules read no clock, not even the injected one",
        scope: PURE,
        except: &[],
        forbidden: &["Instant::now", "SystemTime", "Timestamp::now", "Zoned::now", "crate::clock"],
        breaks: "use crate::clock::Clock;",
        keeps: "fn due(now: Timestamp) -> bool {",
    },
    Rule {
        name: "pure modules use no module with effects",
        scope: PURE,
        except: &[],
        forbidden: &[
            "crate::cli",
            "crate::host",
            "crate::apply",
            "crate::kafka",
            "crate::agent",
            "crate::alert",
            "crate::lab",
            "crate::monitor::run",
        ],
        breaks: "use crate::host::Host;",
        keeps: "use crate::agent_port;",
    },
    Rule {
        name: "the inventory depends on nothing above it",
        scope: &["src/inventory/"],
        except: &[],
        forbidden: &[
            "crate::plan",
            "crate::render",
            "crate::service",
            "crate::rule",
            "crate::lock",
            "crate::secret",
            "crate::probe",
            "crate::artifact",
        ],
        breaks: "use crate::service::Unit;",
        keeps: "use crate::inventory::error::nearest;",
    },
    Rule {
        name: "only cli prints",
        scope: &["src/", "relay/src/"],
        // `tail` is the program whose output is data.
        except: &["src/cli/", "relay/src/bin/", "relay/src/tail/"],
        forbidden: &["println!", "print!(", "eprint!(", "dbg!(", "io::stdout()"],
        breaks: "    eprintln!(\"done\");",
        keeps: "    tracing::info!(\"done\");",
    },
    Rule {
        name: "only host runs remote commands",
        scope: &["src/"],
        except: &["src/host/"],
        forbidden: &["openssh::", "Command::new(\"ssh\")", "raw_command"],
        breaks: "use openssh::Session;",
        keeps: "use crate::host::Host;",
    },
    Rule {
        name: "only apply's executor sends steps, and only plan makes them",
        scope: &["src/"],
        // Outside of an apply only upkeep is sent.
        except: &["src/apply/execute.rs", "src/apply/audit.rs", "src/host/", "src/plan/"],
        forbidden: &["Command::Execute", "Step::plain(", "Step::because("],
        breaks: "    let call = Call { command: Command::Execute(lines, bodies), timeout };",
        keeps: "    let call = Call { command: Command::Observe(questions), timeout };",
    },
    Rule {
        name: "commands are argument vectors",
        scope: &["src/"],
        except: &[],
        forbidden: &["raw_command", "raw_arg"],
        breaks: "session.raw_command(line);",
        keeps: "session.command(\"tar\").arg(path);",
    },
    Rule {
        name: "only kafka speaks to Kafka, in the control plane",
        scope: &["src/"],
        except: &["src/kafka/"],
        forbidden: &["rdkafka", "kafka_protocol"],
        breaks: "use rdkafka::ClientConfig;",
        keeps: "use crate::kafka::Cluster;",
    },
    Rule {
        name: "only zk knows the ZooKeeper client and znode paths, but for the change of members",
        scope: &["src/", "relay/src/"],
        except: &["relay/src/zk/", "src/ensemble/change.rs"],
        forbidden: &["use zookeeper::", "zookeeper::Client", "\"/aesop/"],
        breaks: "let path = format!(\"/aesop/{cluster}/groups\");",
        keeps: "let role = inventory.zookeeper::<Role>();",
    },
    Rule {
        name: "only clock reads the clock, in the control plane",
        scope: &["src/"],
        // Lab and demo wait for machines, in real time.
        except: &["src/clock.rs", "src/lab/", "src/cli/demo/"],
        forbidden: &["Instant::now", "SystemTime::now", "Timestamp::now", "Zoned::now"],
        breaks: "let start = Instant::now();",
        keeps: "let start = clock.instant();",
    },
    Rule {
        name: "pure modules of the data plane do no input and output",
        scope: &[
            "relay/src/decode/",
            "relay/src/format/",
            "relay/src/wire/",
            "relay/src/group/",
            "relay/src/position.rs",
        ],
        except: &[],
        forbidden: &["tokio", "std::fs", "std::net", "Instant::now", "SystemTime", "Timestamp::now"],
        breaks: "use tokio::io::AsyncRead;",
        keeps: "use bytes::Bytes;",
    },
    Rule {
        name: "no queue without a bound",
        scope: &["src/", "relay/src/"],
        except: &[],
        forbidden: &["unbounded_channel", "std::sync::mpsc::channel"],
        breaks: "let (tx, rx) = tokio::sync::mpsc::unbounded_channel();",
        keeps: "let (tx, rx) = tokio::sync::mpsc::channel(64);",
    },
];

/// Types of configuration files are plain data, whoever reads them; what Kafka says, and what follows from it, too.
const SHAPES: &[&str] = &[
    "crate::agent::config",
    "crate::monitor::config",
    "crate::kafka::view",
    "crate::kafka::gate",
    "crate::kafka::moves",
    "crate::kafka::quorum",
    "crate::kafka::raise",
];

/// What does not follow a rule yet: file and rule. An entry that is no longer needed fails the test.
const NOT_YET: &[(&str, &str)] = &[];

#[test]
fn every_arrow_holds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources: Vec<(String, String)> = ["src", "relay/src"]
        .iter()
        .flat_map(|folder| files(&root.join(folder)))
        .map(|path| {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    assert!(sources.len() > 20, "the sources were not found");
    let mut faults = Vec::new();
    let mut excused = Vec::new();
    for rule in RULES {
        for (name, text) in &sources {
            let found = broken(rule, name, text);
            let excuse = NOT_YET.iter().find(|(file, broken)| file == name && *broken == rule.name);
            match excuse {
                Some(excuse) if !found.is_empty() => excused.push(excuse),
                _ => faults.extend(found),
            }
        }
    }
    faults.extend(
        NOT_YET
            .iter()
            .filter(|e| !excused.contains(e))
            .map(|(file, rule)| format!("{file}: {rule}: no longer needs its excuse")),
    );
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_rule_trips() {
    for rule in RULES {
        let file = sample(rule.scope[0]);
        assert_eq!(broken(rule, &file, rule.breaks).len(), 1, "{}: {}", rule.name, rule.breaks);
        assert!(broken(rule, &file, rule.keeps).is_empty(), "{}: {}", rule.name, rule.keeps);
        let comment = format!(
            "// {}\n/// {}\n#[cfg(test)]\nmod tests {{\n{}\n}}\n",
            rule.breaks, rule.breaks, rule.breaks
        );
        assert!(broken(rule, &file, &comment).is_empty(), "{}: comments and tests are free", rule.name);
        for except in rule.except {
            let file = sample(except);
            assert!(broken(rule, &file, rule.breaks).is_empty(), "{}: {file} is excepted", rule.name);
        }
    }
}

/// A file in `scope`.
fn sample(scope: &str) -> String {
    if scope.ends_with('/') { format!("{scope}x.rs") } else { scope.to_owned() }
}

/// The lines of `text` that break `rule`.
fn broken(rule: &Rule, file: &str, text: &str) -> Vec<String> {
    let within = |scopes: &[&str]| {
        scopes.iter().any(|scope| file == *scope || scope.ends_with('/') && file.starts_with(scope))
    };
    if !within(rule.scope) || within(rule.except) || file.ends_with("/tests.rs") || file.contains("/tests/") {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut test = false;
    for (number, line) in text.lines().enumerate() {
        let code = line.trim_start();
        // Unit tests stand at the end of a file.
        test |= code.starts_with("#[cfg(test)]")
            && text
                .lines()
                .nth(number + 1)
                .is_some_and(|next| next.trim_start().starts_with("mod ") && next.contains('{'));
        if test || code.starts_with("//") {
            continue;
        }
        let code = SHAPES.iter().fold(code.to_owned(), |code, shape| code.replace(shape, ""));
        if let Some(word) = rule.forbidden.iter().find(|word| has_word(&code, word)) {
            found.push(format!("{file}:{}: {}: `{word}`", number + 1, rule.name));
        }
    }
    found
}

/// Whether `word` stands in `code` and does not go on there: `crate::agent` is not in `crate::agent_port`.
fn has_word(code: &str, word: &str) -> bool {
    let open = word.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    code.match_indices(word).any(|(at, _)| {
        let next = code[at + word.len()..].chars().next();
        !open || !next.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}
