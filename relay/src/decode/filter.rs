//! Which tables and columns a source hands on.

/// Databases never read.
const SYSTEM_SCHEMAS: [&str; 4] = ["mysql", "sys", "performance_schema", "information_schema"];

/// Globs over `database.table`; a leading `!` excludes; the last match wins; none at all means everything but
/// the system schemas, which no glob can include.
#[derive(Clone, Debug, Default)]
pub struct TableFilter {
    globs: Vec<(bool, String)>,
    /// No including glob at all: everything not excluded.
    open: bool,
}

impl TableFilter {
    /// Takes the inventory's `tables`.
    pub fn new<T: AsRef<str>>(globs: &[T]) -> Self {
        let globs: Vec<_> = globs
            .iter()
            .map(|glob| match glob.as_ref().strip_prefix('!') {
                Some(rest) => (false, rest.to_owned()),
                None => (true, glob.as_ref().to_owned()),
            })
            .collect();
        let open = !globs.iter().any(|(include, _)| *include);
        Self { globs, open }
    }

    /// No table at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether rows of the table are handed on.
    pub fn table(&self, database: &str, table: &str) -> bool {
        if system(database) {
            return false;
        }
        let name = format!("{database}.{table}");
        let last = self.globs.iter().rev().find(|(_, glob)| matches(glob.as_bytes(), name.as_bytes()));
        last.map_or(self.open, |(include, _)| *include)
    }

    /// Whether any table of the database could be handed on: the test for statements that name no table.
    pub fn database(&self, database: &str) -> bool {
        if system(database) {
            return false;
        }
        let includes = |glob: &str| {
            let db = glob.split_once('.').map_or(glob, |(db, _)| db);
            matches(db.as_bytes(), database.as_bytes())
        };
        self.open || self.globs.iter().any(|(include, glob)| *include && includes(glob))
    }
}

fn system(database: &str) -> bool {
    SYSTEM_SCHEMAS.iter().any(|s| s.eq_ignore_ascii_case(database))
}

/// Globs over `database.table.column`: which columns are left out.
#[derive(Clone, Debug, Default)]
pub struct ColumnFilter(Vec<String>);

impl ColumnFilter {
    /// Takes the inventory's `columns.exclude`.
    pub fn new<T: AsRef<str>>(globs: &[T]) -> Self {
        Self(globs.iter().map(|g| g.as_ref().to_owned()).collect())
    }

    /// Whether the column is left out.
    pub fn excludes(&self, database: &str, table: &str, column: &str) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let name = format!("{database}.{table}.{column}");
        self.0.iter().any(|glob| matches(glob.as_bytes(), name.as_bytes()))
    }
}

/// `*` is any run of bytes (dots included), `?` any one byte.
fn matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        match (glob.get(g), text.get(t)) {
            (Some(b'*'), _) => {
                star = Some((g, t));
                g += 1;
            }
            (Some(b'?'), Some(_)) => {
                g += 1;
                t += 1;
            }
            (Some(x), Some(y)) if x == y => {
                g += 1;
                t += 1;
            }
            (None, None) => return true,
            _ => {
                // Let the last star take one byte more.
                let Some((star_g, star_t)) = star else { return false };
                if star_t >= text.len() {
                    return false;
                }
                star = Some((star_g, star_t + 1));
                g = star_g + 1;
                t = star_t + 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_match_wins_and_system_schemas_stay_out() {
        let filter = TableFilter::new(&["shop.*", "!shop.sess*", "shop.sessions_kept"]);
        assert!(filter.table("shop", "orders"));
        assert!(!filter.table("shop", "sessions"));
        assert!(filter.table("shop", "sessions_kept"));
        assert!(!filter.table("other", "orders"));
        let all = TableFilter::new(&["*.*"]);
        assert!(all.table("a", "b"));
        assert!(!all.table("mysql", "user"));
        assert!(!all.table("SYS", "x"));
    }

    #[test]
    fn only_excluding_globs_leave_the_rest() {
        let filter = TableFilter::new(&["!shop.sessions"]);
        assert!(filter.table("shop", "orders"));
        assert!(!filter.table("shop", "sessions"));
        assert!(TableFilter::new::<&str>(&[]).table("a", "b"));
    }

    #[test]
    fn databases_are_told_from_the_globs() {
        let filter = TableFilter::new(&["shop.*", "bill*.invoices"]);
        assert!(filter.database("shop"));
        assert!(filter.database("billing"));
        assert!(!filter.database("other"));
        assert!(!filter.database("mysql"));
    }

    #[test]
    fn columns() {
        let filter = ColumnFilter::new(&["shop.users.password", "*.*.secret?"]);
        assert!(filter.excludes("shop", "users", "password"));
        assert!(filter.excludes("a", "b", "secret1"));
        assert!(!filter.excludes("a", "b", "secret"));
    }

    #[test]
    fn globs() {
        for (glob, text, is) in [
            ("*", "", true),
            ("a*b*c", "aXXbYYc", true),
            ("a*b*c", "aXXbYY", false),
            ("*a", "aaa", true),
            ("", "", true),
            ("?", "", false),
            ("a**", "a", true),
        ] {
            assert_eq!(matches(glob.as_bytes(), text.as_bytes()), is, "{glob} {text}");
        }
    }
}
