//! All that differs between the two servers.

use std::fmt::Write as _;

/// Which server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Postgresql,
    Mariadb,
}

impl Dialect {
    /// By the scheme of an address.
    pub fn of(url: &str) -> Option<Self> {
        match url.split_once("://")?.0 {
            "postgres" | "postgresql" => Some(Self::Postgresql),
            "mariadb" | "mysql" => Some(Self::Mariadb),
            _ => None,
        }
    }

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgresql => "postgresql",
            Self::Mariadb => "mariadb",
        }
    }

    /// What each connection is told first. Under InnoDB's default, REPEATABLE READ, taking rows locks the gaps
    /// beside them too, and inserts wait for pollers.
    pub(super) fn session(self) -> &'static [&'static str] {
        match self {
            Self::Postgresql => &[],
            Self::Mariadb => &["SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"],
        }
    }

    pub(super) fn schema(self) -> &'static [&'static str] {
        match self {
            Self::Postgresql => &[
                "CREATE TABLE IF NOT EXISTS ksched_messages (
                    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                    due_ms BIGINT NOT NULL,
                    topic TEXT NOT NULL,
                    target_partition INTEGER NULL,
                    message_key BYTEA NULL,
                    message_value BYTEA NULL,
                    headers BYTEA NOT NULL
                )",
                "CREATE INDEX IF NOT EXISTS ksched_messages_due ON ksched_messages (due_ms, id)",
            ],
            Self::Mariadb => &["CREATE TABLE IF NOT EXISTS ksched_messages (
                    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
                    due_ms BIGINT NOT NULL,
                    topic VARCHAR(255) NOT NULL,
                    target_partition INTEGER NULL,
                    message_key MEDIUMBLOB NULL,
                    message_value MEDIUMBLOB NULL,
                    headers MEDIUMBLOB NOT NULL,
                    INDEX ksched_messages_due (due_ms, id)
                ) ENGINE = InnoDB"],
        }
    }

    /// The rows due at the first parameter, at most as many as the second.
    pub(super) fn take(self) -> &'static str {
        match self {
            Self::Postgresql => {
                "SELECT id, due_ms, topic, target_partition, message_key, message_value, headers \
                 FROM ksched_messages WHERE due_ms <= $1 ORDER BY due_ms, id LIMIT $2 \
                 FOR UPDATE SKIP LOCKED"
            }
            Self::Mariadb => {
                "SELECT id, due_ms, topic, target_partition, message_key, message_value, headers \
                 FROM ksched_messages WHERE due_ms <= ? ORDER BY due_ms, id LIMIT ? \
                 FOR UPDATE SKIP LOCKED"
            }
        }
    }

    pub(super) fn version(self) -> &'static str {
        match self {
            Self::Postgresql => "SELECT version()",
            Self::Mariadb => "SELECT CONVERT(version() USING utf8mb4)",
        }
    }

    /// `insert` with the places for so many rows of so many columns behind it.
    pub(super) fn insert(self, insert: &str, columns: usize, rows: usize) -> String {
        let mut text = String::with_capacity(insert.len() + rows * columns * 7);
        text.push_str(insert);
        for row in 0..rows {
            text.push_str(if row == 0 { "(" } else { ",(" });
            for column in 0..columns {
                let comma = if column == 0 { "" } else { "," };
                // Writing to a String cannot fail.
                let _ = match self {
                    Self::Postgresql => write!(text, "{comma}${}", row * columns + column + 1),
                    Self::Mariadb => write!(text, "{comma}?"),
                };
            }
            text.push(')');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_for_each_value() {
        assert_eq!(Dialect::Postgresql.insert("V ", 2, 2), "V ($1,$2),($3,$4)");
        assert_eq!(Dialect::Mariadb.insert("V ", 2, 2), "V (?,?),(?,?)");
    }

    #[test]
    fn the_scheme_tells_the_server() {
        assert_eq!(Dialect::of("postgres://x@y:1/z"), Some(Dialect::Postgresql));
        assert_eq!(Dialect::of("mariadb://x@y:1/z"), Some(Dialect::Mariadb));
        assert_eq!(Dialect::of("sqlite://x"), None);
        assert_eq!(Dialect::of("127.0.0.1:5432"), None);
    }
}
