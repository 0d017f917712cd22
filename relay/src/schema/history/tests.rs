use super::*;
use crate::schema::DeclaredColumn;

fn at(offset: u64) -> Position {
    Position::new(1, 1, offset)
}

fn table(name: &str) -> TableName {
    TableName::new("d", name)
}

fn declared(column: &str) -> Declared {
    let column = DeclaredColumn {
        name: column.into(),
        kind: "int".into(),
        charset: None,
        octets: None,
        nullable: true,
        visible: true,
    };
    Declared { columns: vec![column], key: Vec::new() }
}

fn name_at(history: &History, of: &str, offset: u64) -> Option<String> {
    history.at(&table(of), at(offset)).map(|declared| declared.columns[0].name.clone())
}

fn changed(name: &str) -> Touch {
    Touch::Changed(vec![table(name)])
}

#[test]
fn a_declaration_holds_both_ways_up_to_a_statement() {
    let mut history = History::default();
    history.restart(at(100), at(1000));
    history.touch(at(300), changed("t"));
    history.touch(at(700), changed("T"));
    assert!(history.saw(table("t"), at(500), declared("a")));
    assert_eq!(name_at(&history, "t", 299), None);
    // The statement's own transaction may have rows, of what it made.
    assert_eq!(name_at(&history, "t", 300).as_deref(), Some("a"));
    assert_eq!(name_at(&history, "t", 500).as_deref(), Some("a"));
    assert_eq!(name_at(&history, "t", 699).as_deref(), Some("a"));
    assert_eq!(name_at(&history, "t", 700), None);
    assert_eq!(name_at(&history, "u", 500), None);
    assert_eq!(history.changed_after(&table("t"), at(10)), Some(at(300)));
}

#[test]
fn what_was_not_read_is_not_known() {
    let mut history = History::default();
    history.restart(at(100), at(200));
    assert!(history.saw(table("t"), at(500), declared("a")));
    assert_eq!(name_at(&history, "t", 150), None, "a statement may stand between");
    assert!(history.join(at(200), at(500)));
    assert_eq!(name_at(&history, "t", 150).as_deref(), Some("a"));
    assert_eq!(name_at(&history, "t", 501), None);
    // Another epoch, and a gap: what was known does not reach over.
    assert!(!history.join(at(600), at(700)), "a gap");
    history.restart(Position::new(2, 1, 100), Position::new(2, 1, 200));
    assert_eq!(name_at(&history, "t", 150), None);
}

#[test]
fn renames_are_followed_both_ways() {
    let mut history = History::default();
    history.restart(at(100), at(1000));
    let swap = vec![(table("t"), table("old")), (table("ghost"), table("t"))];
    history.touch(at(500), Touch::Renamed(swap));
    history.saw(table("t"), at(200), declared("before"));
    history.saw(table("t"), at(800), declared("after"));
    assert_eq!(name_at(&history, "t", 499).as_deref(), Some("before"));
    assert_eq!(name_at(&history, "t", 500).as_deref(), Some("after"));
    assert_eq!(name_at(&history, "old", 600).as_deref(), Some("before"));
    assert_eq!(name_at(&history, "ghost", 300).as_deref(), Some("after"));
    assert_eq!(name_at(&history, "ghost", 600), None);
    assert_eq!(history.called_later(&table("ghost"), at(300)), table("t"));
    assert_eq!(history.called_later(&table("t"), at(300)), table("old"));
    assert_eq!(history.changed_after(&table("ghost"), at(300)), None);
}

#[test]
fn what_is_not_understood_ends_all_knowledge() {
    let mut history = History::default();
    history.restart(at(100), at(1000));
    history.saw(table("t"), at(200), declared("a"));
    history.touch(at(300), Touch::Database("other".into()));
    assert!(name_at(&history, "t", 400).is_some());
    history.touch(at(500), Touch::Database("D".into()));
    assert_eq!(name_at(&history, "t", 600), None);
    history.saw(table("t"), at(600), declared("b"));
    history.touch(at(700), Touch::Everything);
    assert_eq!(name_at(&history, "t", 800), None);
    // In a character set that is not known any letter beyond ASCII may be any other.
    history.saw(table("tä"), at(800), declared("c"));
    history.touch(at(900), changed("t\u{fffd}"));
    assert_eq!(name_at(&history, "tä", 950), None);
}

#[test]
fn a_change_without_a_statement_is_noticed_and_holds_from_there_on() {
    let mut history = History::default();
    history.restart(at(100), at(1000));
    assert!(history.saw(table("t"), at(200), declared("a")));
    assert!(history.saw(table("t"), at(300), declared("a")));
    assert!(!history.saw(table("t"), at(600), declared("b")));
    assert_eq!(name_at(&history, "t", 400).as_deref(), Some("a"));
    assert_eq!(name_at(&history, "t", 600).as_deref(), Some("b"));
}

#[test]
fn what_is_forgotten_leaves_what_it_led_to() {
    let mut history = History::default();
    history.restart(at(100), at(1000));
    history.saw(table("t"), at(200), declared("a"));
    history.touch(at(300), Touch::Renamed(vec![(table("t"), table("u"))]));
    history.touch(at(700), changed("u"));
    history.forget_before(at(500));
    assert_eq!(name_at(&history, "u", 500).as_deref(), Some("a"));
    assert_eq!(name_at(&history, "u", 650).as_deref(), Some("a"));
    assert_eq!(name_at(&history, "u", 700), None);
    assert_eq!(name_at(&history, "u", 499), None);
    let text = serde_json::to_string(&history).unwrap();
    assert_eq!(serde_json::from_str::<History>(&text).unwrap(), history);
}

#[test]
fn statements_are_not_kept_without_end() {
    let mut history = History::default();
    history.restart(at(1), at(1_000_000));
    history.saw(table("kept"), at(2), declared("a"));
    for number in 0..20_000 {
        history.touch(at(10 + number), changed("other"));
        // Read again after a restart.
        history.touch(at(10 + number), changed("other"));
    }
    assert!(history.touches.len() <= MAX_TOUCHES, "{}", history.touches.len());
    assert_eq!(name_at(&history, "kept", 900_000).as_deref(), Some("a"));
}

/// Statements and looks in any order: an answer is always what a model of the server says.
mod model {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        Alter(u8),
        Rename(u8, u8),
        Look(u8),
        Unclear,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u8..4).prop_map(Step::Alter),
            (0u8..4, 0u8..6).prop_map(|(from, to)| Step::Rename(from, to)),
            (0u8..6).prop_map(Step::Look),
            Just(Step::Unclear),
        ]
    }

    proptest! {
        #[test]
        fn never_a_wrong_answer(steps in proptest::collection::vec(step(), 1..40)) {
            let name = |n: u8| table(&format!("t{n}"));
            let mut server: BTreeMap<TableName, usize> = (0..4).map(|n| (name(n), usize::from(n))).collect();
            let mut history = History::default();
            history.restart(at(10), at(10 * u64::try_from(steps.len()).unwrap() + 20));
            let mut truth = vec![(at(10), server.clone())];
            for (number, step) in steps.iter().enumerate() {
                let position = at(20 + 10 * u64::try_from(number).unwrap());
                match step {
                    Step::Alter(n) => {
                        if let Some(version) = server.get_mut(&name(*n)) {
                            *version = 100 + number;
                            history.touch(position, Touch::Changed(vec![name(*n)]));
                        }
                    }
                    Step::Rename(from, to) if !server.contains_key(&name(*to)) => {
                        if let Some(version) = server.remove(&name(*from)) {
                            server.insert(name(*to), version);
                            history.touch(position, Touch::Renamed(vec![(name(*from), name(*to))]));
                        }
                    }
                    Step::Rename(..) => {}
                    Step::Look(n) => {
                        if let Some(version) = server.get(&name(*n)) {
                            prop_assert!(history.saw(name(*n), position, declared(&version.to_string())));
                        }
                    }
                    Step::Unclear => {
                        for version in server.values_mut() {
                            *version += 1000;
                        }
                        history.touch(position, Touch::Everything);
                    }
                }
                truth.push((position, server.clone()));
                if number == 20 {
                    history.forget_before(position);
                }
            }
            for (position, tables) in &truth {
                for n in 0..6 {
                    if let Some(found) = history.at(&name(n), *position) {
                        let version = tables.get(&name(n)).map(ToString::to_string);
                        prop_assert_eq!(Some(&found.columns[0].name), version.as_ref(), "t{} at {}", n, position);
                    }
                }
            }
        }
    }
}
