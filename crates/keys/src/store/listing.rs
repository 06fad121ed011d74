//! Finding keys: lists in pages, and look-ups of an id by name, redacted form, hash or text.

use inferyard_proto::keys::v1::StoredKey;
use redis::cmd;
use tokio::task::JoinSet;

use super::{KeyStore, StoreError};
use crate::{KeyHash, KeyText};

/// The longest page of a list.
pub const LONGEST_PAGE: usize = 100;
/// How many keys of one name an error lists.
const MOST_KEYS_NAMED: usize = 10;

/// A part of a list, the oldest key first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// The keys.
    pub keys: Vec<StoredKey>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// Why a look-up did not find exactly one key.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// It found none.
    #[error("there is no key of this id, name, redacted form or hash")]
    Unknown,
    /// It found several; these are their ids.
    #[error("several keys are called so: choose one by its id: {}", .0.join(", "))]
    Ambiguous(Vec<String>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl KeyStore {
    /// A page of keys, oldest first, of all accounts or of one.
    ///
    /// `after` is the id of the last key of the page before; `limit` is clamped to 1 up to [`LONGEST_PAGE`].
    pub async fn list(
        &self,
        account: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let limit = limit.clamp(1, LONGEST_PAGE);
        let list = list_name(account);
        let mut cursor = after.map(str::to_owned);
        let mut page = Page::default();
        loop {
            let ids = self.ids_after(&list, cursor.as_deref(), limit + 1).await?;
            let is_end = ids.len() <= limit;
            cursor = ids.last().cloned();
            for (id, key) in self.keys(ids).await? {
                match key {
                    Some(_) if page.keys.len() == limit => {
                        page.more = true;
                        return Ok(page);
                    }
                    Some(key) => page.keys.push(key),
                    None => self.forget(&list, &id).await?,
                }
            }
            if is_end {
                return Ok(page);
            }
        }
    }

    async fn ids_after(
        &self,
        list: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let first = after.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
        let mut command = cmd("ZRANGEBYLEX");
        command.arg(list).arg(first).arg("+");
        command.arg("LIMIT").arg(0).arg(limit);
        self.ask(command).await
    }

    /// The keys of these ids, in their order, from concurrent requests. A damaged record is logged and left out, so
    /// that it does not hide the other keys.
    async fn keys(&self, ids: Vec<String>) -> Result<Vec<(String, Option<StoredKey>)>, StoreError> {
        let mut asked = JoinSet::new();
        for (index, id) in ids.into_iter().enumerate() {
            let store = self.clone();
            asked.spawn(async move {
                let key = store.get(&id).await;
                (index, id, key)
            });
        }
        let mut keys = asked.join_all().await;
        keys.sort_unstable_by_key(|(index, ..)| *index);
        let readable = keys.into_iter().filter_map(|(_, id, key)| match key {
            Err(StoreError::Damaged) => {
                tracing::error!(id, "what the key store holds of this key cannot be read");
                None
            }
            key => Some(key.map(|key| (id, key))),
        });
        readable.collect()
    }

    /// Removes an id from a list: the key's record has expired in Redis.
    async fn forget(&self, list: &str, id: &str) -> Result<(), StoreError> {
        let mut command = cmd("ZREM");
        command.arg(list).arg(id);
        self.ask(command).await
    }

    /// Adds a key to the lists, and to the ids of its name and of its redacted form.
    pub(super) async fn index(&self, key: &StoredKey) -> Result<(), StoreError> {
        for list in [list_name(None), list_name(Some(&key.account))] {
            let mut command = cmd("ZADD");
            command.arg(list).arg(0).arg(&key.id);
            let () = self.ask(command).await?;
        }
        for name in [&key.name, &key.redacted] {
            let mut command = cmd("SADD");
            command.arg(names_name(name)).arg(&key.id);
            let () = self.ask(command).await?;
        }
        Ok(())
    }

    /// Removes a key from the lists and names.
    pub(super) async fn unindex(&self, key: &StoredKey) -> Result<(), StoreError> {
        for list in [list_name(None), list_name(Some(&key.account))] {
            self.forget(&list, &key.id).await?;
        }
        for name in [&key.name, &key.redacted] {
            self.unindex_name(name, &key.id).await?;
        }
        Ok(())
    }

    /// Removes an id from those of a name.
    async fn unindex_name(&self, name: &str, id: &str) -> Result<(), StoreError> {
        let mut command = cmd("SREM");
        command.arg(names_name(name)).arg(id);
        self.ask(command).await
    }

    /// Looks up the id of a key by its id, its name, its redacted form, the hash of one of its texts, or a text.
    ///
    /// # Errors
    ///
    /// There is no such key, several have the name, or the store failed.
    pub async fn resolve(&self, reference: &str) -> Result<String, ResolveError> {
        if reference.starts_with("key_") && self.get(reference).await?.is_some() {
            return Ok(reference.to_owned());
        }
        let is_text = KeyText::is_formed_like(reference);
        let hash = KeyHash::parse(reference).or(is_text.then(|| KeyHash::of(reference.as_bytes())));
        if let Some(hash) = hash
            && let Some(key) = self.find(&hash).await?
        {
            return Ok(key.id);
        }
        let mut found = self.keys_named(&reference.replace("...", "…")).await?;
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(ResolveError::Unknown),
            _ => Err(ResolveError::Ambiguous(found)),
        }
    }

    /// The ids of at most ten keys of this name that are not revoked.
    async fn keys_named(&self, name: &str) -> Result<Vec<String>, StoreError> {
        let mut command = cmd("SRANDMEMBER");
        command.arg(names_name(name)).arg(MOST_KEYS_NAMED);
        let mut ids: Vec<String> = self.ask(command).await?;
        ids.sort_unstable();
        let mut found = Vec::new();
        for (id, key) in self.keys(ids).await? {
            match key {
                Some(key) if !key.disabled => found.push(id),
                _ => self.unindex_name(name, &id).await?,
            }
        }
        Ok(found)
    }
}

fn list_name(account: Option<&str>) -> String {
    match account {
        Some(account) => format!("iy:key-list:{account}"),
        None => "iy:key-list".to_owned(),
    }
}

fn names_name(name: &str) -> String {
    format!("iy:key-name:{name}")
}
