//! The status of a model: counts of workers, conditions, and the progress of loading.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Condition;

/// The observed state of a model. The operator writes it.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ModelDeploymentStatus {
    /// `metadata.generation` that this status describes.
    #[serde(default)]
    pub observed_generation: i64,
    /// Release whose operator manages this resource, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
    /// Name of the model in requests (field `model`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Engine of the model: `embedded`, `vllm`, `sglang` or `openai`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Number of workers that exist, ready or not.
    #[serde(default)]
    pub replicas: i32,
    /// Number of workers that are ready to answer.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Number of workers that run the current declaration.
    #[serde(default)]
    pub updated_replicas: i32,
    /// Number of ready workers that the condition `Available` requires.
    #[serde(default)]
    pub required_replicas: i32,
    /// Ready and desired workers, such as `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<String>,
    /// Label selector of the pods of the workers. Autoscalers read it through the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Progress of the loading worker that is the furthest behind. Absent if no worker is loading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loading: Option<Loading>,
    /// Conditions of the types `Ready`, `Available`, `Progressing`, `Accepted`, `Scheduled`, `WeightsAvailable` and
    /// `RolloutComplete`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::condition::conditions")]
    pub conditions: Vec<Condition>,
}

/// The progress of a worker that is not ready yet.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Loading {
    /// Name of the pod of the worker.
    pub pod: String,
    /// Progress of the current step in percent, 0 to 100. The steps are the download of the weights and the loading of
    /// the model.
    #[serde(default)]
    pub percent: i32,
    /// Bytes that are downloaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_done: Option<i64>,
    /// Bytes of all files to download.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_total: Option<i64>,
    /// Current download rate in bytes per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<i64>,
    /// Remaining time of the download at the current rate, such as `1m30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<String>,
}

/// Declares an enum with a list of all variants, and the name of each variant as text.
macro_rules! closed_set {
    ($(#[$about:meta])* $name:ident { $($(#[$of:meta])* $variant:ident,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$of])* $variant,)+
        }

        impl $name {
            /// All variants in the order of their declaration.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name in the status.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)+
                }
            }
        }
    };
}

closed_set! {
    /// The types of the conditions of a resource.
    ConditionType {
        /// All desired workers are ready, and run the current declaration.
        Ready,
        /// At least as many workers are ready as `spec.availability` requires.
        Available,
        /// The declaration takes effect without intervention, or has taken effect. False: a person has to act.
        Progressing,
        /// The declaration is valid and was applied.
        Accepted,
        /// Every worker has a node.
        Scheduled,
        /// Every worker has the weights.
        WeightsAvailable,
        /// Every worker runs the current declaration.
        RolloutComplete,
    }
}

closed_set! {
    /// The reasons of the status of a condition.
    Reason {
        /// The resource is accepted.
        Valid,
        /// A field has a value that cannot work. The message says what to write instead.
        Invalid,
        /// An older resource has the name, the alias, the preview or the hash already.
        NameTaken,
        /// The resource refers to an object that does not exist.
        NotFound,
        /// Only a resource in a namespace of the platform may set a field to this value. The message names the field.
        NotAllowed,
        /// The API server refuses an object of the resource because of a quota, a policy, or missing permissions.
        Refused,
        /// The API server cannot apply an object of the resource now, for example because an admission webhook is down.
        /// The operator tries again.
        ApplyFailed,
        /// Every worker is ready.
        AllReady,
        /// `spec.scaling.replicas` is 0.
        ScaledToZero,
        /// Enough workers are ready.
        EnoughWorkers,
        /// Fewer workers are ready than required.
        TooFewWorkers,
        /// The objects of the resource are being created.
        Creating,
        /// Every worker has a node.
        AllScheduled,
        /// The pods wait for the removal of their scheduling gates, for example by a job queue.
        SchedulingGated,
        /// No node fits, or no node has room. The message names the resource that is missing.
        NoNodeFits,
        /// The rollout waits for room on a node while the old workers serve.
        RolloutWaits,
        /// The StorageClass of the volume does not exist.
        StorageClassMissing,
        /// The volume is not provisioned yet.
        VolumePending,
        /// An image cannot be pulled.
        ImagePull,
        /// A container cannot be created, because a Secret is missing or its settings are refused.
        ContainerConfig,
        /// A container that the operator did not add fails.
        ContainerFailed,
        /// The containers are starting.
        Starting,
        /// The weights are being downloaded.
        Fetching,
        /// The weights cannot be downloaded. The message has the last lines of the log.
        FetchFailed,
        /// The engine loads the weights.
        Loading,
        /// The engine or the worker exited, or the engine fails requests. The message says how, with the last lines of
        /// the log of the worker, but never with those of the engine.
        EngineFailed,
        /// Every worker has the weights.
        Available,
        /// Old workers are being replaced.
        RollingOut,
        /// Every worker runs the current declaration.
        Complete,
    }
}
