//! All steps of a request, on one page.
//!
//! accept → authenticate → read → quarantine → reserve → place → stream → answer → meter. Each step takes the
//! result of the step before it. A client that disconnects drops the future or the body at any of them: the
//! worker is cancelled and reports what it produced, the slot is released, and the meter settles the bill and
//! writes the record.

use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::SET_COOKIE;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::sleep_until;
use tracing::Instrument as _;

use crate::accept::{AcceptError, Accepted, Route, accept};
use crate::app::App;
use crate::authenticate::{AuthenticateError, Caller, authenticate};
use crate::body::{Content, Metered};
use crate::collect::{collect, discard};
use crate::error::Error;
use crate::meter::Meter;
use crate::reply::{self, Bounds, EventBody};
use crate::respond;
use crate::stopped::StoppedError;
use crate::{explain, models, organization, preview, probes};
use inferyard_admission::{Reserved, check_visitor, refuse, reserve};
use inferyard_upstream::PlaceError;
use inferyard_upstream::{Dispatch, StreamError, Upstream};
use inferyard_wire::Answer;
use inferyard_wire::Frames;
use inferyard_wire::Head;
use inferyard_wire::{Api, Parsed, ResponseSpec, read};

/// Answers one request; every error becomes a response.
pub(crate) async fn serve(
    app: Arc<App>,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Response<Metered> {
    let (accepted, route, mut body) = accept(&app.config, peer, request);
    let mut meter = Meter::new(&app.telemetry, &accepted);
    let span = meter.span();
    let result = {
        let work = answer(&app, route, &accepted, &mut body, &mut meter);
        // Pinned here, so that `within` holds a pointer instead of a copy of the future.
        let work = pin!(work.instrument(span));
        within(&app, &accepted, work).await
    };
    let response = match result {
        Ok(response) => response,
        Err(error) => {
            meter.failed(&error);
            discard(&accepted.head.headers, &mut body, 2 * app.config.body_limit).await;
            error.response(accepted.id.as_str()).map(Content::Whole)
        }
    };
    if let Content::Whole(_) = response.body() {
        meter.ends_with(response.status()).await;
    }
    respond::finish(&app.config, &accepted, response, meter)
}

/// Answers a request by its route.
async fn answer(
    app: &Arc<App>,
    route: Result<Route, AcceptError>,
    accepted: &Accepted,
    body: &mut Incoming,
    meter: &mut Meter,
) -> Result<Response<Content>, Error> {
    let owner = &app.config.model_owner;
    let (status, json) = match route? {
        Route::Generate(api) => return generate(app, api, accepted, body, meter).await,
        Route::Organization => {
            let answer = organization::forward(&app.config, accepted, body).await?;
            return Ok(respond::forwarded(answer));
        }
        Route::Models => (
            StatusCode::OK,
            models::list(&call(app, accepted, meter).await?, owner),
        ),
        Route::Model(id) => {
            let caller = call(app, accepted, meter).await?;
            (StatusCode::OK, models::one(&caller, &id, owner)?)
        }
        Route::Placement(id) => {
            let (decision_log, headers) =
                (app.dispatcher.fleet.decision_log(), &accepted.head.headers);
            let json = explain::answer(&app.config, decision_log, headers, &id)?;
            (StatusCode::OK, json)
        }
        Route::Live => (StatusCode::OK, probes::live()),
        Route::Ready(needed) => {
            let catalog = app.catalog();
            probes::verdict(&app.readiness, &app.status(&catalog), needed)
        }
        Route::Preflight => return Ok(respond::preflight(&accepted.head.headers)),
    };
    Ok(respond::json(status, json))
}

/// All steps of a generation, from the key to the answer.
async fn generate(
    app: &Arc<App>,
    api: Api,
    accepted: &Accepted,
    body: &mut Incoming,
    meter: &mut Meter,
) -> Result<Response<Content>, Error> {
    let caller = call(app, accepted, meter).await?;
    check_visitor(&app.limiter, &caller.key)?;
    let parsed = match receive(app, api, &caller, accepted, body).await {
        Ok(parsed) => parsed,
        Err(error) => {
            refuse(&app.limiter, &caller.key, accepted.context()).await?;
            return Err(error);
        }
    };
    meter.asks_for(&parsed.model().id);
    StoppedError::check(parsed.model(), parsed.requested_model())?;
    let key = &caller.key;
    let generation = parsed.bind(&key.account, accepted.id, key.plan.priority);
    let suspect = match app.quarantine.admit(&key.account, generation.request()) {
        Ok(suspect) => suspect,
        Err(error) => {
            refuse(&app.limiter, &caller.key, accepted.context()).await?;
            return Err(error.into());
        }
    };
    let lengths = app.dispatcher.fleet.lengths(&generation.model().id);
    let (limiter, estimates) = (&app.limiter, &app.estimates);
    let context = accepted.context();
    let reserving = reserve(limiter, estimates, lengths, key, context, generation);
    let Reserved {
        bill,
        request: reserved,
        response,
    } = reserving.await?;
    meter.owes(bill);
    let dispatch = Dispatch {
        id: accepted.id,
        deadline: accepted.deadline,
        key,
        reserved,
        suspect,
        explain: explain::is_asked(&app.config, &accepted.head.headers),
    };
    let upstream = Upstream::new(&app.dispatcher, dispatch);
    reply(app, upstream, response, accepted, meter).await
}

/// Collects the body and parses it.
async fn receive(
    app: &App,
    api: Api,
    caller: &Caller,
    accepted: &Accepted,
    body: &mut Incoming,
) -> Result<Parsed, Error> {
    let config = &app.config;
    let (limit, time) = (config.body_limit, config.body_timeout);
    let bytes = collect(&accepted.head.headers, body, limit, time).await?;
    let read = || read(api, &bytes, &caller.catalog, &caller.key.plan);
    Ok(tracing::debug_span!("read").in_scope(read)?)
}

/// Authenticates the caller; a caller without a key can be a visitor of the preview.
async fn call(
    app: &App,
    accepted: &Accepted,
    meter: &mut Meter,
) -> Result<Caller, AuthenticateError> {
    let stored = app.stored_keys.as_ref();
    let catalog = app.catalog();
    if catalog.pending {
        return Err(AuthenticateError::Pending);
    }
    let caller = match authenticate(Arc::clone(&catalog), stored, &accepted.head.headers).await {
        Err(AuthenticateError::NoKey) => {
            let visit = preview::visit(&app.config, accepted, catalog);
            let visit = visit.ok_or(AuthenticateError::NoKey)?;
            if let Some(cookie) = visit.cookie {
                meter.tell(SET_COOKIE, cookie);
            }
            visit.caller
        }
        known => known?,
    };
    meter.called_by(&caller.key);
    Ok(caller)
}

/// Streams the answer, or collects it. A stream whose first token takes longer than `keep_alive` sends its head
/// and then comments, so that the client knows that it is alive; errors are frames from then on.
async fn reply(
    app: &App,
    mut upstream: Upstream,
    response: ResponseSpec,
    accepted: &Accepted,
    meter: &mut Meter,
) -> Result<Response<Content>, Error> {
    let shape = response.shape;
    let head = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Head {
            request_id: accepted.id.as_str().into(),
            api: shape.api,
            created: now.map_or(0, |time| time.as_secs()),
            model: response.requested_model,
        }
    };
    let Some(options) = response.stream else {
        let answer = Answer::new(head(), shape);
        let body = reply::collect(upstream, answer, meter).await?;
        return Ok(respond::json(StatusCode::OK, body));
    };
    let keep_alive = app.config.keep_alive;
    let first = reply::first(&mut upstream, meter, keep_alive).await?;
    let bounds = Bounds {
        deadline: accepted.deadline,
        keep_alive,
        cut: &app.cut,
    };
    let frames = Frames::new(&head(), shape, options);
    Ok(respond::events(EventBody::new(
        upstream, first, frames, &bounds,
    )))
}

/// Ends the work at the deadline, or when the drain time is over.
async fn within<T>(
    app: &App,
    accepted: &Accepted,
    work: Pin<&mut impl Future<Output = Result<T, Error>>>,
) -> Result<T, Error> {
    tokio::select! {
        biased;
        result = work => result,
        () = sleep_until(accepted.deadline) => Err(StreamError::DeadlineExceeded.into()),
        () = app.cut.cancelled() => Err(PlaceError::ShuttingDown.into()),
    }
}
