//! The table and its two users: those who insert, and those who take what is due.

mod dialect;

use std::time::Duration;

use bytes::Bytes;
use ksched_core::message::Content;
use sqlx::{
    Any, AnyPool, AssertSqlSafe, ConnectOptions as _, Row as _, Transaction,
    any::{AnyConnectOptions, AnyPoolOptions, AnyRow},
};
use tokio::time::timeout;

pub use self::dialect::Dialect;
use crate::{
    Error, Row,
    row::{decode_headers, encode_headers},
};

/// No call to the database takes longer; a commit waits for the disk.
const CALL: Duration = Duration::from_secs(15);
/// Rows of one statement: seven parameters each, of 65,535 that both servers take.
const STATEMENT_ROWS: usize = 1_000;
/// Bytes of one statement; MariaDB takes 16 MiB (`max_allowed_packet`).
const STATEMENT_BYTES: usize = 4 << 20;

const INSERT: &str = "INSERT INTO ksched_messages (due_ms, topic, target_partition, message_key, message_value, headers) VALUES ";

/// The table, by a pool of connections.
#[derive(Clone, Debug)]
pub struct Database {
    pool: AnyPool,
    connections: u32,
    dialect: Dialect,
}

/// Rows taken for delivery: locked until this is settled or dropped, for others to pass over.
#[derive(Debug)]
pub struct Taken {
    transaction: Transaction<'static, Any>,
    ids: Vec<i64>,
    pub rows: Vec<Row>,
}

/// What becomes of a row that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is deleted.
    Delivered,
    /// It is not known to be delivered: it stays, due as it was.
    Open,
    /// It cannot be delivered as things are: it stays, and must not stand before others.
    Postponed,
}

impl Database {
    /// Connects to `postgres://USER@HOST:PORT/DATABASE` or `mariadb://…`, with at most so many connections,
    /// made when they are first needed but for the first.
    ///
    /// # Errors
    /// [`Error::Address`], and those of the server.
    pub async fn connect(url: &str, connections: u32) -> Result<Self, Error> {
        let dialect = Dialect::of(url).ok_or_else(|| Error::Address(url.to_owned()))?;
        sqlx::any::install_default_drivers();
        let options: AnyConnectOptions = url.parse()?;
        let pool = AnyPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(CALL)
            // A round trip each time, and a connection that broke shows at its first statement.
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    for statement in dialect.session() {
                        sqlx::raw_sql(*statement).execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            });
        let pool = bounded(pool.connect_with(options.disable_statement_logging())).await?;
        Ok(Self { pool, connections, dialect })
    }

    /// How many statements can run at the same time.
    pub fn connections(&self) -> u32 {
        self.connections
    }

    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Makes the table and its index if they are not there.
    ///
    /// # Errors
    /// Those of the server, here and below.
    pub async fn prepare_table(&self) -> Result<(), Error> {
        for statement in self.dialect.schema() {
            bounded(sqlx::raw_sql(*statement).execute(&self.pool)).await?;
        }
        Ok(())
    }

    /// Removes whatever is scheduled.
    pub async fn clear(&self) -> Result<(), Error> {
        bounded(sqlx::raw_sql("TRUNCATE TABLE ksched_messages").execute(&self.pool)).await?;
        Ok(())
    }

    /// How many messages are in the table.
    pub async fn waiting(&self) -> Result<u64, Error> {
        let row = bounded(sqlx::query("SELECT COUNT(*) FROM ksched_messages").fetch_one(&self.pool)).await?;
        Ok(u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0))
    }

    /// The server's own words on what it is.
    pub async fn version(&self) -> Result<String, Error> {
        let row = bounded(sqlx::query(self.dialect.version()).fetch_one(&self.pool)).await?;
        Ok(row.try_get(0)?)
    }

    /// Schedules messages. When this returns they are on disk. Up to 1,000 rows of 4 MiB in all are one statement
    /// and happen together; more are several, each for itself.
    pub async fn insert_batch(&self, rows: &[Row]) -> Result<(), Error> {
        let mut rest = rows;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(fits(rest));
            self.insert_statement(now).await?;
            rest = later;
        }
        Ok(())
    }

    async fn insert_statement(&self, rows: &[Row]) -> Result<(), Error> {
        let mut query = sqlx::query(AssertSqlSafe(self.dialect.insert(INSERT, 6, rows.len())));
        for row in rows {
            let content = &row.content;
            query = query
                .bind(row.due_ms)
                .bind(row.topic.clone())
                .bind(row.partition)
                .bind(content.key.as_deref().map(<[u8]>::to_vec))
                .bind(content.value.as_deref().map(<[u8]>::to_vec))
                .bind(encode_headers(&content.headers));
        }
        bounded(query.execute(&self.pool)).await?;
        Ok(())
    }

    /// Takes what is due at `now_ms` and nobody else has, the earliest first, at most `limit`; nothing if there is
    /// nothing.
    pub async fn take(&self, now_ms: i64, limit: u32) -> Result<Option<Taken>, Error> {
        let mut transaction = bounded(self.pool.begin()).await?;
        let select = sqlx::query(self.dialect.take()).bind(now_ms).bind(i64::from(limit));
        let found = bounded(select.fetch_all(&mut *transaction)).await?;
        if found.is_empty() {
            bounded(transaction.rollback()).await?;
            return Ok(None);
        }
        let mut taken = Taken {
            transaction,
            ids: Vec::with_capacity(found.len()),
            rows: Vec::with_capacity(found.len()),
        };
        for row in &found {
            let (id, row) = read(row)?;
            taken.ids.push(id);
            taken.rows.push(row);
        }
        Ok(Some(taken))
    }
}

impl Taken {
    /// Deletes the rows that were delivered, sets the due time of those to be postponed to `later_ms`, and lets go
    /// of all.
    ///
    /// # Errors
    /// Then all of them are free again, and delivered again.
    pub async fn settle(mut self, fates: &[Fate], later_ms: i64) -> Result<(), Error> {
        let of = |wanted: Fate| -> Vec<i64> {
            let with_fates = self.ids.iter().zip(fates);
            with_fates.filter(|(_, fate)| **fate == wanted).map(|(id, _)| *id).collect()
        };
        let (delivered, postponed) = (of(Fate::Delivered), of(Fate::Postponed));
        // Numbers of our own making, so they may stand in the text; as parameters, each length would be another
        // statement to prepare.
        if !delivered.is_empty() {
            let delete = format!("DELETE FROM ksched_messages WHERE id IN ({})", list(&delivered));
            bounded(sqlx::raw_sql(AssertSqlSafe(delete)).execute(&mut *self.transaction)).await?;
        }
        if !postponed.is_empty() {
            let ids = list(&postponed);
            let update = format!("UPDATE ksched_messages SET due_ms = {later_ms} WHERE id IN ({ids})");
            bounded(sqlx::raw_sql(AssertSqlSafe(update)).execute(&mut *self.transaction)).await?;
        }
        bounded(self.transaction.commit()).await
    }
}

/// Waits for an answer, but not for ever.
async fn bounded<T>(call: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
    match timeout(CALL, call).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Error::Silent(CALL)),
    }
}

/// How many of the first rows go into one statement; one always does.
fn fits(rows: &[Row]) -> usize {
    let mut bytes = 0;
    let fitting = rows.iter().take(STATEMENT_ROWS).take_while(|row| {
        bytes += row.topic.len() + row.content.size();
        bytes <= STATEMENT_BYTES
    });
    fitting.count().max(1)
}

fn read(row: &AnyRow) -> Result<(i64, Row), Error> {
    let bytes = |place: usize| -> Result<Option<Bytes>, sqlx::Error> {
        Ok(row.try_get::<Option<Vec<u8>>, _>(place)?.map(Bytes::from))
    };
    let id = row.try_get(0)?;
    let headers = decode_headers(bytes(6)?.unwrap_or_default()).ok_or(Error::Broken { id })?;
    let row = Row {
        due_ms: row.try_get(1)?,
        topic: row.try_get(2)?,
        partition: row.try_get(3)?,
        content: Content { key: bytes(4)?, value: bytes(5)?, headers },
    };
    Ok((id, row))
}

fn list(ids: &[i64]) -> String {
    let ids: Vec<_> = ids.iter().map(i64::to_string).collect();
    ids.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_has_bounds() {
        let row = |size: usize| Row {
            due_ms: 0,
            topic: "t".to_owned(),
            partition: None,
            content: Content { value: Some(vec![0; size].into()), ..Content::default() },
        };
        assert_eq!(fits(&vec![row(10); 1_500]), STATEMENT_ROWS);
        assert_eq!(fits(&vec![row(1 << 20); 10]), 3);
        assert_eq!(fits(&[row(STATEMENT_BYTES), row(1)]), 1);
    }
}
