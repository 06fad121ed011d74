//! Keys in the key store of a service.

use anyhow::Context;
use inferyard_keys::{
    Issued, KeyStore, LONGEST_PAGE, ResolveError, RotateError, StoreError, WantedKey,
};
use inferyard_redis_link::Address;
use serde_json::json;
use tokio::runtime;

use super::print::{self, Row};
use super::{Action, Create, List, Output, Revoke, Rotate, seconds};
use crate::failure::Failure;

/// Does what is asked in the store at this address.
pub(super) fn run(address: Address, action: &Action) -> Result<(), Failure> {
    let store = KeyStore::new(address);
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(async {
        match action {
            Action::Create(create) => self::create(&store, create).await,
            Action::List(list) => self::list(&store, list).await,
            Action::Rotate(rotate) => self::rotate(&store, rotate).await,
            Action::Revoke(revoke) => self::revoke(&store, revoke).await,
        }
    })
}

async fn create(store: &KeyStore, create: &Create) -> Result<(), Failure> {
    let (Some(name), Some(account)) = (&create.name, &create.account) else {
        return Err(Failure::usage(
            "a key in Redis needs --name and --account: nothing else tells it from a million others"
                .to_owned(),
        ));
    };
    let fields = create.fields(name.clone(), account.clone());
    let wanted = WantedKey::new(fields, seconds());
    let wanted = wanted.map_err(|error| Failure::usage(error.to_string()))?;
    let issued = store.create(wanted).await?;
    print_issued(&issued, create.output.output, "created")
}

async fn list(store: &KeyStore, list: &List) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let mut after = list.after.clone();
    let mut more = true;
    while more && rows.len() < list.limit {
        let limit = LONGEST_PAGE.min(list.limit - rows.len());
        let account = list.account.as_deref();
        let page = store.list(account, after.as_deref(), limit).await?;
        after = page.keys.last().map(|key| key.id.clone());
        more = page.more;
        let now = seconds();
        rows.extend(page.keys.into_iter().map(|key| Row::of(key, now)));
    }
    match list.output.output {
        Output::Text => print::table(&rows)?,
        Output::Json => print::json_lines(&rows)?,
    }
    if let (true, Some(id)) = (more, after) {
        print::note(&format!("there are more: --after {id}"));
    }
    Ok(())
}

async fn rotate(store: &KeyStore, rotate: &Rotate) -> Result<(), Failure> {
    let id = store.resolve(&rotate.key).await?;
    let issued = store.rotate(&id, rotate.overlap).await?;
    print_issued(&issued, rotate.output.output, "rotated")
}

async fn revoke(store: &KeyStore, revoke: &Revoke) -> Result<(), Failure> {
    let id = store.resolve(&revoke.key).await?;
    if !store.revoke(&id).await? {
        return Err(ResolveError::Unknown.into());
    }
    match revoke.output.output {
        Output::Text => print::line(&format!("revoked {id}: within 5 seconds it works nowhere")),
        Output::Json => print::line(&json!({"id": id, "revoked": true}).to_string()),
    }
}

fn print_issued(issued: &Issued, output: Output, done: &str) -> Result<(), Failure> {
    let key = &issued.key;
    let text = issued.text.reveal();
    match output {
        Output::Json => print::line(
            &json!({
                "key": text, "id": key.id, "name": key.name, "account": key.account,
                "plan": key.plan, "redacted": key.redacted, "hash": issued.text.hash().to_string(),
            })
            .to_string(),
        ),
        Output::Text => {
            print::note(&format!(
                "{done} {} ({}) of account {} on plan {}. The key is shown only now:",
                key.id, key.name, key.account, key.plan
            ));
            print::line(text)
        }
    }
}

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
