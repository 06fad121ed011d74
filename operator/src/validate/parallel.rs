//! The tensor-parallel size of an engine, from its number of accelerators and the parallelism in its arguments.
//!
//! An engine uses the product of its sizes: four copies (data parallel) of two ranks (tensor parallel) use eight.

use super::{EngineKind, ServerKind};

/// The tensor-parallel size that the operator passes, and a note if the sizes do not fit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ranks {
    /// None: the arguments set it, or the engine needs none.
    pub(super) tensor: Option<i32>,
    /// A note that the arguments use more accelerators than a worker has. They are not refused, because some devices
    /// count as one accelerator and have several cores.
    pub(super) note: Option<String>,
}

/// A kind of parallelism that multiplies the number of accelerators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Tensor,
    Pipeline,
    Data,
    /// Data-parallel copies on this machine, if others run elsewhere.
    DataLocal,
    PrefillContext,
}

/// A size in the arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    Absent,
    Count(i64),
    /// The value is not a number, such as a variable of the container.
    Unknown,
}

/// The options of each size. Both servers accept unambiguous prefixes of options, so the usual prefixes are listed too.
const VLLM: &[(Size, &[&str])] = &[
    (
        Size::Tensor,
        &["--tensor-parallel-size", "-tp", "--tensor-parallel"],
    ),
    (
        Size::Pipeline,
        &["--pipeline-parallel-size", "-pp", "--pipeline-parallel"],
    ),
    (Size::Data, &["--data-parallel-size", "-dp"]),
    (Size::DataLocal, &["--data-parallel-size-local", "-dpl"]),
    (
        Size::PrefillContext,
        &["--prefill-context-parallel-size", "-pcp"],
    ),
];
const SGLANG: &[(Size, &[&str])] = &[
    (
        Size::Tensor,
        &[
            "--tensor-parallel-size",
            "--tp-size",
            "--tp",
            "--tensor-parallel",
        ],
    ),
    (
        Size::Pipeline,
        &[
            "--pipeline-parallel-size",
            "--pp-size",
            "--pp",
            "--pipeline-parallel",
        ],
    ),
    (
        Size::Data,
        &[
            "--data-parallel-size",
            "--dp-size",
            "--dp",
            "--data-parallel",
        ],
    ),
];
/// Options of an engine that is one part of a larger engine. Its sizes do not tell how many accelerators it uses here.
const MULTI_NODE: &[&str] = &[
    "--nnodes",
    "--node-rank",
    "--data-parallel-rank",
    "-dpn",
    "--data-parallel-start-rank",
    "-dpr",
    "--data-parallel-external-lb",
    "-dpe",
    "--data-parallel-hybrid-lb",
    "-dph",
];
/// With this option of SGLang, data-parallel copies share the tensor-parallel ranks.
const SHARED_COPIES: &str = "--enable-dp-attention";

/// The tensor-parallel size for `count` accelerators.
pub(super) fn ranks(engine: &EngineKind, count: Option<i32>) -> Ranks {
    let (options, args) = match engine {
        EngineKind::Server(ServerKind::Vllm, engine) => (VLLM, &engine.args),
        EngineKind::Server(ServerKind::Sglang, engine) => (SGLANG, &engine.args),
        EngineKind::Server(ServerKind::Openai, _) | EngineKind::Embedded(_) => {
            return Ranks::default();
        }
    };
    let has = |wanted: &[&str]| {
        args.iter()
            .any(|arg| wanted.contains(&option(arg).0.as_str()))
    };
    let Some(count) = count.map(i64::from).filter(|_| !has(MULTI_NODE)) else {
        return Ranks::default();
    };
    let given = |size| given(args, options, size);
    let copies = match (given(Size::DataLocal), given(Size::Data)) {
        _ if has(&[SHARED_COPIES]) => Given::Absent,
        (Given::Absent, all) => all,
        (here, _) => here,
    };
    let tensor = given(Size::Tensor);
    let others = [copies, given(Size::Pipeline), given(Size::PrefillContext)];
    let (Some(tensor_size), Some(others)) = (product(&[tensor]), product(&others)) else {
        return Ranks::default();
    };
    let used = others.saturating_mul(tensor_size);
    let left = if tensor == Given::Absent {
        count / others
    } else {
        1
    };
    Ranks {
        tensor: i32::try_from(left).ok().filter(|left| *left > 1),
        note: (used > count).then(|| {
            format!(
                "the arguments of the engine use {used} accelerators, and spec.accelerators.count is {count}: set it to \
                 {used}, or lower the sizes in spec.engine"
            )
        }),
    }
}

/// The product of sizes. None: a size is unknown, or 0.
fn product(sizes: &[Given]) -> Option<i64> {
    let mut counts = sizes
        .iter()
        .map(|given| given.count().filter(|count| *count > 0));
    counts.try_fold(1_i64, |product, count| Some(product.saturating_mul(count?)))
}

/// The size in the arguments. The last argument counts, as it does for the servers.
fn given(args: &[String], options: &[(Size, &[&str])], wanted: Size) -> Given {
    let names = options.iter().filter(|(size, _)| *size == wanted);
    let names: Vec<_> = names.flat_map(|(_, names)| *names).collect();
    let mut found = Given::Absent;
    for (index, arg) in args.iter().enumerate() {
        let (name, value) = option(arg);
        if names.contains(&&name.as_str()) {
            let next = || args.get(index + 1).map(String::as_str);
            let count = value.or_else(next).and_then(|value| value.parse().ok());
            found = count.map_or(Given::Unknown, Given::Count);
        }
    }
    found
}

/// The name of an option in the spelling of `--help`, and the value in the same argument.
fn option(arg: &str) -> (String, Option<&str>) {
    let (name, value) = match arg.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (arg, None),
    };
    (name.replace('_', "-"), value)
}

// === impl Given ===

impl Given {
    /// The size, 1 if it is absent. None: unknown.
    fn count(self) -> Option<i64> {
        match self {
            Self::Absent => Some(1),
            Self::Count(count) => Some(count),
            Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use inferyard_crds::ServerEngine;

    use super::*;

    fn found(kind: ServerKind, args: &str, count: i32) -> Ranks {
        let engine = ServerEngine {
            image: "i".to_owned(),
            args: args.split_whitespace().map(str::to_owned).collect(),
            env: std::collections::BTreeMap::new(),
            served_model_name: None,
        };
        ranks(&EngineKind::Server(kind, engine), Some(count))
    }

    #[test]
    fn ranks_are_what_the_other_sizes_leave() {
        use ServerKind::{Openai, Sglang, Vllm};
        let table = [
            (Vllm, "", 1, None),
            (Vllm, "", 4, Some(4)),
            (Vllm, "--max-model-len 8192", 4, Some(4)),
            // Named by the user, in every spelling.
            (Vllm, "--tensor-parallel-size 2", 4, None),
            (Vllm, "--tensor-parallel-size=2", 4, None),
            (Vllm, "--tensor_parallel_size=2", 4, None),
            (Vllm, "-tp 2", 4, None),
            (Vllm, "-tp=2", 4, None),
            (Sglang, "--tp 2", 4, None),
            (Sglang, "--tp-size=2", 4, None),
            (Sglang, "--tensor-parallel-size 2", 4, None),
            // Four copies on four: one each.
            (Vllm, "--data-parallel-size 4", 4, None),
            (Vllm, "--data-parallel-size=2", 4, Some(2)),
            (Vllm, "-dp 2", 4, Some(2)),
            (Vllm, "-pp=2", 8, Some(4)),
            (Vllm, "-pp 2 -dp 2", 8, Some(2)),
            (Vllm, "-pp 2 -dp 2 -dp 4", 8, None),
            (Vllm, "-pcp 2", 8, Some(4)),
            (Sglang, "--dp 2", 4, Some(2)),
            (Sglang, "--dp-size=2 --pp-size 2", 8, Some(2)),
            (Sglang, "--data-parallel-size 4", 4, None),
            // Copies that share the ranks.
            (Sglang, "--dp 4 --enable-dp-attention", 4, Some(4)),
            // Of eight copies two are here.
            (Vllm, "--data-parallel-size 8 -dpl 2", 4, Some(2)),
            // If the sizes are unknown, the user has to set the tensor-parallel size.
            (Vllm, "-dp $(COPIES)", 4, None),
            (Vllm, "-dp", 4, None),
            (Vllm, "-dpl 0", 4, None),
            (Vllm, "--nnodes 2", 8, None),
            (Vllm, "-dp 8 --data-parallel-rank 1", 4, None),
            (Openai, "", 4, None),
        ];
        for (kind, args, count, tensor) in table {
            let expected = Ranks { tensor, note: None };
            assert_eq!(found(kind, args, count), expected, "{args} on {count}");
        }
    }

    #[test]
    fn too_many_ranks_are_noted() {
        let table = [
            (ServerKind::Vllm, "-tp 4 -dp 4", 4, "16"),
            (ServerKind::Vllm, "--data-parallel-size=8", 4, "8"),
            (ServerKind::Vllm, "-tp=2", 1, "2"),
            (ServerKind::Sglang, "--tp 4 --pp-size 2", 4, "8"),
        ];
        for (kind, args, count, used) in table {
            let found = found(kind, args, count);
            assert_eq!(found.tensor, None, "{args}");
            let note = found.note.unwrap_or_default();
            assert!(
                note.contains(&format!("use {used} accelerators")),
                "{args}: {note}"
            );
        }
    }

    #[test]
    fn without_accelerators_there_is_nothing_to_count() {
        let engine = ServerEngine {
            image: "i".to_owned(),
            args: vec!["-tp".to_owned(), "2".to_owned()],
            env: std::collections::BTreeMap::new(),
            served_model_name: None,
        };
        let engine = EngineKind::Server(ServerKind::Vllm, engine);
        assert_eq!(ranks(&engine, None), Ranks::default());
    }
}
