//! Whatever happens to PostgreSQL in the middle of a batch: no event is lost, and none counts twice.

use std::ops::Range;

use inferyard_ledger::Store;
use inferyard_proto::usage::v1::UsageEvent;
use inferyard_test_servers::{Postgres, needs};
use sqlx::{AnyConnection, Connection as _};

use crate::connections::eventually;
use crate::events::{event, sum, totals};
use crate::hosted::{Hosted, rows};

/// A ledger in front of a PostgreSQL, and a connection beside it.
struct Bench {
    postgres: Postgres,
    ledger: Hosted,
    beside: AnyConnection,
    told: u32,
}

fn events(numbers: Range<u32>) -> Vec<UsageEvent> {
    numbers.map(|number| event(number, "acme")).collect()
}

impl Bench {
    async fn new() -> Self {
        let postgres = Postgres::start();
        let ledger = Hosted::run(&postgres.url(), None).await;
        let beside = AnyConnection::connect(&postgres.url()).await.unwrap();
        let mut bench = Self {
            postgres,
            ledger,
            beside,
            told: 0,
        };
        bench.tell(10).await;
        bench.heals().await;
        bench
    }

    async fn sql(&mut self, text: &'static str) {
        sqlx::raw_sql(text).execute(&mut self.beside).await.unwrap();
    }

    async fn tell(&mut self, count: u32) {
        self.ledger
            .tell(&events(self.told..self.told + count))
            .await;
        self.told += count;
    }

    /// It fails: that shows, and nothing is there in part.
    async fn fails(&mut self) {
        let before = i64::from(self.told);
        self.tell(100).await;
        self.ledger.says(503).await;
        assert_eq!(rows(&self.postgres.url(), "events").await, before);
    }

    /// It is well again: what was told is there, and what is told from now on.
    async fn heals(&mut self) {
        self.ledger.says(200).await;
        self.tell(5).await;
        let (url, told) = (self.postgres.url(), i64::from(self.told));
        eventually("all rows", async || {
            (rows(&url, "events").await == told).then_some(())
        })
        .await;
    }

    /// Ends the backends of which this is true, and says how many there were.
    async fn kill(&mut self, which: &str) -> i64 {
        let kill = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE {which} AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        );
        let killed = sqlx::query_scalar(sqlx::AssertSqlSafe(kill));
        killed.fetch_one(&mut self.beside).await.unwrap()
    }

    /// Tells one event after the other, until the commit of one waits for its standby and is cut off there.
    async fn is_killed_after_a_commit(&mut self) {
        let url = self.postgres.url();
        loop {
            self.tell(1).await;
            let told = i64::from(self.told);
            loop {
                if self.kill("wait_event = 'SyncRep'").await > 0 {
                    eventually("the rows of the commit", async || {
                        (rows(&url, "events").await == told).then_some(())
                    })
                    .await;
                    return;
                }
                // The setting is not in force yet.
                if rows(&url, "events").await == told {
                    break;
                }
            }
        }
    }

    /// Everything that was told counts, once.
    async fn end(self) {
        self.ledger.end().await;
        let store = Store::open_existing(&self.postgres.url()).await.unwrap();
        assert_eq!(totals(&store).await, sum(&events(0..self.told)));
        assert_eq!(store.dead_letters().await.unwrap(), 0);
    }
}

/// What goes wrong, how, and how it ends.
const FAILURES: [(&str, &str, &str); 4] = [
    (
        "a full disk at an insert",
        "CREATE TRIGGER fails BEFORE INSERT ON usage_hours FOR EACH ROW EXECUTE FUNCTION disk_is_full()",
        "DROP TRIGGER fails ON usage_hours",
    ),
    (
        "a full disk at the commit",
        "CREATE CONSTRAINT TRIGGER fails AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION disk_is_full()",
        "DROP TRIGGER fails ON events",
    ),
    (
        "a backend that is killed in the commit, before it has committed",
        "CREATE CONSTRAINT TRIGGER fails AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION is_killed()",
        "DROP TRIGGER fails ON events",
    ),
    (
        "a database that has become read-only, for new connections",
        "ALTER DATABASE postgres SET default_transaction_read_only = on",
        "ALTER DATABASE postgres RESET default_transaction_read_only",
    ),
];

#[tokio::test]
async fn a_batch_that_fails_is_told_again() {
    needs!(Postgres);
    let mut bench = Bench::new().await;
    bench
        .sql(
            "CREATE FUNCTION disk_is_full() RETURNS trigger LANGUAGE plpgsql AS \
             $$BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END$$;
             CREATE FUNCTION is_killed() RETURNS trigger LANGUAGE plpgsql AS \
             $$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END$$;",
        )
        .await;
    for (name, fail, heal) in FAILURES {
        println!("{name}");
        bench.sql(fail).await;
        assert!(bench.kill("true").await > 0);
        bench.fails().await;
        bench.sql(heal).await;
        bench.heals().await;
    }
    bench.end().await;
}

#[tokio::test]
async fn a_batch_of_which_nobody_knows_whether_it_is_committed_is_told_again() {
    needs!(Postgres);
    let mut bench = Bench::new().await;
    // Cut off while it waits for a lock.
    bench.sql("BEGIN; LOCK TABLE usage_hours").await;
    bench.tell(100).await;
    while bench.kill("wait_event_type = 'Lock'").await == 0 {
        tokio::task::yield_now().await;
    }
    bench.ledger.says(503).await;
    bench.sql("ROLLBACK").await;
    bench.heals().await;

    // A commit that waits for a standby is on disk already. Cut off there, the ledger cannot know it.
    bench
        .sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        .await;
    bench.sql("SELECT pg_reload_conf()").await;
    bench.is_killed_after_a_commit().await;
    bench.ledger.says(503).await;
    bench
        .sql("ALTER SYSTEM RESET synchronous_standby_names")
        .await;
    bench.sql("SELECT pg_reload_conf()").await;
    bench.heals().await;
    bench.end().await;
}

#[tokio::test]
async fn an_idle_ledger_says_that_its_server_is_a_standby() {
    needs!(Postgres);
    let mut bench = Bench::new().await;
    bench.postgres.stop();
    bench.postgres.restart_as_standby();
    bench.beside = AnyConnection::connect(&bench.postgres.url()).await.unwrap();
    bench.ledger.says(503).await;
    bench.fails().await;
    bench.sql("SELECT pg_promote()").await;
    bench.heals().await;
    bench.end().await;
}
