//! The actions of `inferyard keys` on a key store, in Redis or behind the HTTP API of a service.

use anyhow::Context;
use inferyard_keys::{
    KeyFields, KeyHash, KeyStore, LONGEST_PAGE, Page, ResolveError, RotateError, StoreError,
    WantedKey,
};
use serde_json::json;
use tokio::runtime;

use super::api::Api;
use super::issued::Issued;
use super::print::{self, Listing, Row};
use super::{Action, Create, List, Output, Revoke, Rotate, seconds};
use crate::failure::Failure;

/// A key store, in Redis or behind HTTP.
pub(super) enum Store {
    Redis(KeyStore),
    Http(Api),
}

/// Runs the action on this store.
pub(super) fn run(store: &Store, action: &Action) -> Result<(), Failure> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(async {
        match action {
            Action::Create(create) => self::create(store, create).await,
            Action::List(list) => self::list(store, list).await,
            Action::Rotate(rotate) => self::rotate(store, rotate).await,
            Action::Revoke(revoke) => self::revoke(store, revoke).await,
        }
    })
}

async fn create(store: &Store, create: &Create) -> Result<(), Failure> {
    let (Some(name), Some(account)) = (&create.name, &create.account) else {
        return Err(Failure::usage(
            "a key in a key store needs --name and --account: nothing else tells it from a million \
             others"
                .to_owned(),
        ));
    };
    let fields = create.fields(name.clone(), account.clone());
    let issued = store.create(fields).await?;
    print_issued(&issued, create.output.output, "created")
}

async fn list(store: &Store, list: &List) -> Result<(), Failure> {
    let mut listing = Listing::new(list.output.output);
    let account = list.account.as_deref();
    let mut after = list.after.clone();
    let mut left = list.limit;
    loop {
        let page = if left == 0 {
            Page::default()
        } else {
            let limit = LONGEST_PAGE.min(left);
            store.list(account, after.as_deref(), limit).await?
        };
        left = left.saturating_sub(page.keys.len());
        let more = page.more;
        after = page.keys.last().map(|key| key.id.clone());
        let now = seconds();
        let rows = page.keys.into_iter().map(|key| Row::of(key, now));
        let read = listing.page(&rows.collect::<Vec<_>>())?;
        if let (true, true, 0, Some(id)) = (read, more, left, &after) {
            print::note(&format!("there are more: --after {id}"));
        }
        // A page without a last key has no cursor for the next one.
        if !read || !more || left == 0 || after.is_none() {
            return Ok(());
        }
    }
}

async fn rotate(store: &Store, rotate: &Rotate) -> Result<(), Failure> {
    let id = store.resolve(&rotate.key).await?;
    let issued = match store {
        Store::Redis(store) => Issued::from(store.rotate(&id, rotate.overlap).await?),
        Store::Http(api) => api.rotate(&id, rotate.overlap).await?,
    };
    print_issued(&issued, rotate.output.output, "rotated")
}

async fn revoke(store: &Store, revoke: &Revoke) -> Result<(), Failure> {
    let id = store.resolve(&revoke.key).await?;
    let known = match store {
        Store::Redis(store) => store.revoke(&id).await?,
        Store::Http(api) => api.revoke(&id).await?,
    };
    if !known {
        return Err(ResolveError::Unknown.into());
    }
    match revoke.output.output {
        Output::Text => print::line(&format!("revoked {id}: within 5 seconds it works nowhere")),
        Output::Json => print::line(&json!({"id": id, "revoked": true}).to_string()),
    }
}

fn print_issued(issued: &Issued, output: Output, done: &str) -> Result<(), Failure> {
    let Issued { key, text } = issued;
    match output {
        Output::Json => {
            let hash = KeyHash::of(text.as_bytes()).to_string();
            print::line(
                &json!({
                    "key": text, "id": key.id, "name": key.name, "account": key.account,
                    "plan": key.plan, "redacted": key.redacted, "hash": hash,
                })
                .to_string(),
            )
        }
        Output::Text => {
            print::note(&format!(
                "{done} {} ({}) of account {} on plan {}. The key is shown only now:",
                key.id, key.name, key.account, key.plan
            ));
            print::line(text)
        }
    }
}

// === impl Store ===

impl Store {
    async fn create(&self, fields: KeyFields) -> Result<Issued, Failure> {
        let wanted = WantedKey::new(fields.clone(), seconds());
        let wanted = wanted.map_err(|error| Failure::usage(error.to_string()))?;
        match self {
            Self::Redis(store) => Ok(store.create(wanted).await?.into()),
            Self::Http(api) => api.create(fields).await,
        }
    }

    async fn list(
        &self,
        account: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, Failure> {
        match self {
            Self::Redis(store) => Ok(store.list(account, after, limit).await?),
            Self::Http(api) => api.list(account, after, limit).await,
        }
    }

    async fn resolve(&self, called: &str) -> Result<String, Failure> {
        match self {
            Self::Redis(store) => Ok(store.resolve(called).await?),
            Self::Http(api) => api.resolve(called).await,
        }
    }
}

// === impl Failure ===

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<ResolveError> for Failure {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Store(error) => error.into(),
            error => Self::Usage(error.into()),
        }
    }
}

impl From<RotateError> for Failure {
    fn from(error: RotateError) -> Self {
        match error {
            RotateError::Store(error) => error.into(),
            error => Self::Usage(error.into()),
        }
    }
}
