//! The gRPC service of a fetch: it looks like a worker that is loading, so that routers and the operator know it.

use std::pin::Pin;

use inferyard_proto::worker::v1 as wire;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};
use wire::worker_state::Phase;

use crate::progress::Snapshot;

/// The service `inferyard.worker.v1.Worker`.
pub(crate) struct Service {
    pub(crate) instance_id: u64,
    pub(crate) progress: watch::Receiver<Snapshot>,
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl wire::worker_server::Worker for Service {
    type GenerateStream = Messages<wire::GenerateEvent>;
    type WatchStream = Messages<wire::WorkerState>;

    async fn generate(
        &self,
        _request: Request<wire::GenerateRequest>,
    ) -> Result<Response<Self::GenerateStream>, Status> {
        Err(unavailable())
    }

    async fn cancel(
        &self,
        _request: Request<wire::CancelRequest>,
    ) -> Result<Response<wire::CancelResponse>, Status> {
        Err(unavailable())
    }

    /// Sends the state twice a second, which also shows that the process is alive.
    async fn watch(
        &self,
        _request: Request<wire::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (instance_id, mut sequence) = (self.instance_id, 0);
        let states = WatchStream::new(self.progress.clone()).map(move |snapshot| {
            sequence += 1;
            Ok(state(instance_id, sequence, snapshot))
        });
        Ok(Response::new(Box::pin(states)))
    }
}

fn unavailable() -> Status {
    Status::unavailable("the weights are still being fetched")
}

fn state(instance_id: u64, sequence: u64, snapshot: Snapshot) -> wire::WorkerState {
    let Snapshot {
        done,
        total,
        per_second,
        note,
    } = snapshot;
    wire::WorkerState {
        instance_id,
        sequence,
        phase: Phase::Loading.into(),
        load_progress: fraction(done, total),
        note,
        fetch: Some(wire::FetchProgress {
            bytes_done: done,
            bytes_total: total,
            bytes_per_second: per_second,
        }),
        ..wire::WorkerState::default()
    }
}

/// Rounded to thousandths, which every reader can hold.
fn fraction(done: u64, total: u64) -> f32 {
    let thousandths = u128::from(done) * 1000 / u128::from(total.max(1));
    f32::from(u16::try_from(thousandths.min(1000)).unwrap_or(1000)) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_is_between_nothing_and_all() {
        assert_eq!(fraction(0, 0).to_bits(), 0.0_f32.to_bits());
        assert_eq!(fraction(1, 4).to_bits(), 0.25_f32.to_bits());
        assert_eq!(fraction(u64::MAX, u64::MAX).to_bits(), 1.0_f32.to_bits());
        assert_eq!(fraction(5, 4).to_bits(), 1.0_f32.to_bits());
    }
}
