//! Logs on standard error, traces over OTLP where an endpoint is set.

use std::io::{self, IsTerminal};

use anyhow::Context;
use clap::ValueEnum;
use opentelemetry::global;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::{self, Runtime};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

mod buffer;

use crate::failure::Failure;
use buffer::Buffer;

/// llama.cpp logs a hundred lines for each model, with warnings about normal states. The Kubernetes client and watcher log
/// every error that they also return, and their callers log it with more context.
const QUIET: &str = "llama-cpp-2=error,kube_client=off,kube_runtime::watcher=off";

/// Traces have every step of a request, whatever the log level is. Spans of libraries are left out, above all those of
/// the exporter's own requests.
const TRACED: &str = "off,inferyard_router=debug,inferyard_wire=debug,inferyard_admission=debug,\
                      inferyard_upstream=debug,inferyard_worker=debug,inferyard_engine=debug,inferyard_chat=debug";

/// Settings of logs and traces. Prompts and answers are never logged.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Logs and traces")]
pub(crate) struct Args {
    /// Log level, also by module, as in `info,inferyard_router=debug`
    #[arg(
        long,
        env = "RUST_LOG",
        value_name = "FILTER",
        default_value = "info",
        hide_env = true
    )]
    pub(crate) log: String,
    /// Log format on standard error
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub(crate) log_format: Format,
    /// OTLP endpoint (gRPC) for traces, as in `http://localhost:4317`
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_name = "URL",
        hide_env = true
    )]
    pub(crate) otlp_endpoint: Option<String>,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text, in colour on a terminal
    Text,
    /// One JSON object per line
    Json,
}

/// Flushes logs and traces when it is dropped.
pub(crate) struct Guard {
    buffer: Buffer,
    traces: Option<Traces>,
}

/// Runtime of the exporter. Its shutdown waits for its own requests, so they cannot run on the caller's single-threaded
/// runtime, which waits for the shutdown.
struct Traces {
    provider: SdkTracerProvider,
    _runtime: Runtime,
}

/// Sets up logs and traces of this process, whose `role` is the name of its subcommand.
pub(crate) fn init(args: &Args, role: &'static str) -> Result<Guard, Failure> {
    // Of two directives for one target the later one wins: `--log info,llama-cpp-2=info` shows all of them.
    let filter = EnvFilter::try_new(format!("{QUIET},{}", args.log))
        .map_err(|error| Failure::usage(format!("--log {}: {error}", args.log)))?;
    global::set_text_map_propagator(TraceContextPropagator::new());
    let traces = args
        .otlp_endpoint
        .as_deref()
        .filter(|endpoint| !endpoint.is_empty())
        .map(|endpoint| Traces::to(endpoint, role))
        .transpose()?;
    let buffer = Buffer::start().context("cannot start the thread that writes logs")?;
    let mut layers = vec![
        lines(args.log_format, buffer.clone())
            .with_filter(filter)
            .boxed(),
    ];
    if let Some(traces) = &traces {
        let provider = &traces.provider;
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("inferyard"));
        layers.push(layer.with_filter(EnvFilter::new(TRACED)).boxed());
    }
    Registry::default()
        .with(layers)
        .try_init()
        .context("logs are set up already")?;
    Ok(Guard { buffer, traces })
}

fn lines(format: Format, buffer: Buffer) -> Box<dyn Layer<Registry> + Send + Sync> {
    match format {
        Format::Text => fmt::layer()
            .with_target(false)
            .with_ansi(io::stderr().is_terminal())
            .with_writer(buffer)
            .boxed(),
        Format::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(buffer)
            .boxed(),
    }
}

// === impl Traces ===

impl Traces {
    fn to(endpoint: &str, role: &'static str) -> anyhow::Result<Self> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("traces")
            .enable_all()
            .build()
            .context("cannot start the thread that sends traces")?;
        let inside = runtime.enter();
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .build()
            .with_context(|| format!("cannot send traces to {endpoint}"))?;
        let resource = Resource::builder()
            .with_service_name(format!("inferyard-{role}"))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_batch_exporter(exporter)
            .build();
        drop(inside);
        Ok(Self {
            provider,
            _runtime: runtime,
        })
    }
}

// === impl Guard ===

impl Drop for Guard {
    /// An unreachable collector does not change the exit code.
    fn drop(&mut self) {
        if let Some(traces) = self.traces.take() {
            drop(traces.provider.shutdown());
        }
        self.buffer.end();
    }
}
