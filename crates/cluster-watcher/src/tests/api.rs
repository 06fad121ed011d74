//! An API server in memory: it lists and watches, and fails as it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, timeout_at};

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    /// Nobody listens on its port.
    Away,
    /// It takes requests and never answers.
    Hanging,
}

/// A handle on it.
#[derive(Clone)]
pub(super) struct TestApi(Arc<Mutex<Inner>>);

struct Inner {
    mood: Mood,
    /// What happens is not told to those who watch.
    lossy: bool,
    version: u64,
    objects: BTreeMap<Place, Value>,
    events: Vec<Event>,
    watchers: Vec<Watcher>,
    /// What its cache has: lists that a caller takes from there are of then.
    cached: Option<(u64, BTreeMap<Place, Value>)>,
    /// Namespaces whose lists are refused with 403.
    forbidden: BTreeSet<String>,
    /// The status that lists, or watches, are answered with instead.
    list_status: Option<StatusCode>,
    watch_status: Option<StatusCode>,
    /// Every watch ends as soon as it has begun.
    ends_watches: bool,
    /// The most objects in an answer to a list.
    page: usize,
    lists: usize,
    watches: usize,
    /// Lists that a cache may answer.
    cached_lists: usize,
}

/// The fields of a query.
type Query = BTreeMap<String, String>;

/// Plural of the kind, namespace and name.
type Place = (String, String, String);

struct Event {
    version: u64,
    plural: String,
    namespace: String,
    line: Bytes,
}

struct Watcher {
    plural: String,
    namespace: Option<String>,
    lines: mpsc::UnboundedSender<Bytes>,
    connection: Arc<Mutex<Connection>>,
}

/// How the connection of a watch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    Well,
    /// Nothing arrives any more, not even its end.
    Dead,
}

impl TestApi {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            mood: Mood::Well,
            lossy: false,
            version: 100,
            objects: BTreeMap::new(),
            events: Vec::new(),
            watchers: Vec::new(),
            cached: None,
            forbidden: BTreeSet::new(),
            list_status: None,
            watch_status: None,
            ends_watches: false,
            page: usize::MAX,
            lists: 0,
            watches: 0,
            cached_lists: 0,
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// A client whose own namespace is `n`.
    pub(super) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let answer = api.inner().answer(request.uri());
                match answer {
                    Ok(answer) => Ok(answer),
                    Err(Mood::Hanging) => std::future::pending().await,
                    Err(_) => Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)),
                }
            }
        });
        Client::new(service, "n")
    }

    pub(super) fn put(&self, object: Value) {
        self.inner().put(object);
    }

    pub(super) fn delete(&self, object: &Value) {
        self.inner().delete(object);
    }

    /// How many lists were asked for.
    pub(super) fn lists(&self) -> usize {
        self.inner().lists
    }

    /// How many of them did not ask for the store itself.
    pub(super) fn cached_lists(&self) -> usize {
        self.inner().cached_lists
    }

    /// How many watches were asked for.
    pub(super) fn watches(&self) -> usize {
        self.inner().watches
    }

    /// Lists are answered with this status from now on, `None`: with objects.
    pub(super) fn answer_lists(&self, status: Option<StatusCode>) {
        self.inner().list_status = status;
    }

    /// Watches are answered with this status from now on, `None`: with events.
    pub(super) fn answer_watches(&self, status: Option<StatusCode>) {
        self.inner().watch_status = status;
    }

    /// Watches end as soon as they have begun from now on.
    pub(super) fn end_watches(&self) {
        let mut inner = self.inner();
        inner.ends_watches = true;
        inner.watchers.clear();
    }

    /// The most objects in an answer to a list.
    pub(super) fn page(&self, objects: usize) {
        self.inner().page = objects;
    }

    /// The connections of the open watches are dead without being closed; new connections are well.
    pub(super) fn kill_watches(&self) {
        for watcher in &self.inner().watchers {
            *watcher.connection.lock().unwrap() = Connection::Dead;
        }
    }

    /// Whether those who watch hear of nothing from now on.
    pub(super) fn lossy(&self, lossy: bool) {
        self.inner().lossy = lossy;
    }

    /// Its cache stands still from now on: it lags behind the store.
    pub(super) fn lag(&self) {
        let mut inner = self.inner();
        inner.cached = Some((inner.version, inner.objects.clone()));
    }

    /// Whether the namespace may be read.
    pub(super) fn forbid(&self, namespace: &str, forbidden: bool) {
        let mut inner = self.inner();
        if forbidden {
            inner.forbidden.insert(namespace.to_owned());
        } else {
            inner.forbidden.remove(namespace);
        }
    }

    /// Connections that are open break, unless it hangs.
    pub(super) fn mood(&self, mood: Mood) {
        self.inner().mood = mood;
        match mood {
            Mood::Well => {}
            Mood::Away => self.inner().watchers.clear(),
            Mood::Hanging => self.kill_watches(),
        }
    }

    /// It remembers no event, and says so to those who watch.
    pub(super) fn expire(&self) {
        let mut inner = self.inner();
        inner.events.clear();
        let status = json!({"type": "ERROR", "object": {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "too old resource version", "reason": "Expired", "code": 410,
        }});
        for watcher in inner.watchers.drain(..) {
            watcher.lines.send(line(&status)).unwrap();
        }
    }

    /// Its store is put back to what it was in another life: versions begin again.
    pub(super) fn restore(&self) {
        let mut inner = self.inner();
        inner.version = 1;
        inner.events.clear();
        inner.watchers.clear();
    }
}

impl Inner {
    fn put(&mut self, mut object: Value) {
        let place = place(&object);
        let exists = self.objects.contains_key(&place);
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.objects.insert(place.clone(), object.clone());
        self.tell(place, if exists { "MODIFIED" } else { "ADDED" }, &object);
    }

    fn delete(&mut self, object: &Value) {
        let place = place(object);
        let mut object = self.objects.remove(&place).unwrap();
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.tell(place, "DELETED", &object);
    }

    fn tell(&mut self, (plural, namespace, _): Place, kind: &str, object: &Value) {
        if self.lossy {
            return;
        }
        let line = line(&json!({"type": kind, "object": object}));
        for watcher in &self.watchers {
            let scope = watcher.namespace.as_ref();
            let asked = watcher.plural == plural && scope.is_none_or(|scope| *scope == namespace);
            if asked && *watcher.connection.lock().unwrap() == Connection::Well {
                // One who left is no fault.
                watcher.lines.send(line.clone()).ok();
            }
        }
        self.events.push(Event {
            version: self.version,
            plural,
            namespace,
            line,
        });
    }

    fn answer(&mut self, uri: &http::Uri) -> Result<Answer, Mood> {
        if self.mood != Mood::Well {
            return Err(self.mood);
        }
        let query: Query = fields(uri.query().unwrap_or_default()).collect();
        let segments: Vec<_> = uri.path().trim_matches('/').split('/').collect();
        let (namespace, plural) = match segments.as_slice() {
            [.., "namespaces", namespace, plural] => (Some((*namespace).to_owned()), *plural),
            [.., plural] => (None, *plural),
            [] => unreachable!("a path has a segment"),
        };
        if plural == "pods" {
            let selector = query.get("labelSelector").map(String::as_str);
            assert_eq!(selector, Some("app.kubernetes.io/name=inferyard-worker"));
        }
        if (namespace.as_ref()).is_some_and(|namespace| self.forbidden.contains(namespace)) {
            let message = format!("{plural} is forbidden");
            return Ok(refusal(StatusCode::FORBIDDEN, &message));
        }
        if query.contains_key("watch") {
            return Ok(self.answer_watch(plural, namespace, &query));
        }
        Ok(self.answer_list(plural, namespace.as_deref(), &query))
    }

    fn answer_list(&mut self, plural: &str, namespace: Option<&str>, query: &Query) -> Answer {
        self.lists += 1;
        if let Some(status) = self.list_status {
            return refusal(status, "lists fail");
        }
        let version = query.get("resourceVersion").map(|text| text.parse::<u64>());
        // A list at no version is of the store.
        let cached = version.as_ref().and(self.cached.as_ref());
        self.cached_lists += usize::from(version.is_some());
        let (newest, objects) = cached
            .map_or((self.version, &self.objects), |(version, objects)| {
                (*version, objects)
            });
        if version.and_then(Result::ok).unwrap_or(0) > newest {
            return refusal(StatusCode::GATEWAY_TIMEOUT, "Too large resource version");
        }
        let objects = objects.iter().filter(|((kind, of, _), _)| {
            kind == plural && namespace.is_none_or(|namespace| namespace == of)
        });
        // The token is how many objects its caller has. (Nothing changes in the middle of a list here.)
        let before = query
            .get("continue")
            .map_or(0, |token| token.parse().unwrap());
        let mut objects = objects.map(|(_, object)| object).skip(before);
        let items: Vec<_> = objects.by_ref().take(self.page).collect();
        let next = objects.next().map(|_| (before + items.len()).to_string());
        let list = json!({
            "kind": "List", "apiVersion": "v1", "items": items,
            "metadata": {"resourceVersion": newest.to_string(), "continue": next},
        });
        whole(StatusCode::OK, &list)
    }

    fn answer_watch(&mut self, plural: &str, namespace: Option<String>, query: &Query) -> Answer {
        self.watches += 1;
        if let Some(status) = self.watch_status {
            return refusal(status, "watches fail");
        }
        let version = query["resourceVersion"].parse().unwrap();
        if version > self.version {
            return refusal(StatusCode::GATEWAY_TIMEOUT, "Too large resource version");
        }
        let seconds = query["timeoutSeconds"].parse().unwrap();
        let end = Instant::now() + Duration::from_secs(seconds);
        self.watch(plural.to_owned(), namespace, version, end)
    }

    /// Events after a version, until the end.
    fn watch(
        &mut self,
        plural: String,
        namespace: Option<String>,
        after: u64,
        end: Instant,
    ) -> Answer {
        let (lines, rest) = mpsc::unbounded_channel();
        for event in &self.events {
            let scope = namespace.as_ref();
            let asked = event.plural == plural && scope.is_none_or(|of| *of == event.namespace);
            if asked && event.version > after {
                lines.send(event.line.clone()).unwrap();
            }
        }
        let connection = Arc::new(Mutex::new(Connection::Well));
        let watched = Arc::clone(&connection);
        if !self.ends_watches {
            self.watchers.push(Watcher {
                plural,
                namespace,
                lines,
                connection,
            });
        }
        let frames = stream::unfold(rest, move |mut rest| {
            let watched = Arc::clone(&watched);
            async move {
                let line = match timeout_at(end, rest.recv()).await {
                    Ok(line) => line?,
                    Err(_) if *watched.lock().unwrap() == Connection::Well => return None,
                    Err(_) => std::future::pending().await,
                };
                Some((Ok(Frame::data(line)), rest))
            }
        });
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

fn place(object: &Value) -> Place {
    let plural = match object["kind"].as_str().unwrap() {
        "ModelDeployment" => "modeldeployments",
        "Plan" => "plans",
        "ApiKey" => "apikeys",
        _ => "pods",
    };
    let text = |field: &str| object["metadata"][field].as_str().unwrap().to_owned();
    (plural.to_owned(), text("namespace"), text("name"))
}

fn line(value: &Value) -> Bytes {
    format!("{value}\n").into()
}

fn whole(status: StatusCode, value: &Value) -> Answer {
    let body = Full::from(value.to_string()).boxed_unsync();
    Response::builder().status(status).body(body).unwrap()
}

fn refusal(status: StatusCode, message: &str) -> Answer {
    let value = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": "Timeout", "code": status.as_u16(),
    });
    whole(status, &value)
}

/// The fields of a query; of the encoded characters only those that kube uses here.
fn fields(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter_map(|field| {
        let (name, value) = field.split_once('=')?;
        let value = value.replace("%2F", "/").replace("%3D", "=");
        Some((name.to_owned(), value))
    })
}
