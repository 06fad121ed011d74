//! A GGUF file becomes a model: weights, vocabulary, chat template, and a context to compute in.

mod limits;
mod vocabulary;

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use inferyard_chat::grammar::{Checked, Grammars};
use inferyard_chat::prompt::{self, ChatTemplate, Conversation, SpecialTokens};
use inferyard_engine::queue::{Queue, RunState};
use inferyard_engine::state::{Capacity, State};
use llama_cpp_2::LogOptions;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;

use crate::config::Config;
use crate::job::Job;
use crate::kv::Token;
use crate::sample::TokenId;
use crate::tokenize::{Text, TokenizeError, Tokenizer};

use limits::Limits;
use vocabulary::Vocabulary;

/// Architectures that produce no text by themselves.
const NOT_GENERATIVE: [&str; 4] = ["bert", "t5", "wavtokenizer", "clip"];

/// A loaded model: all that is known of it and never changes.
pub(crate) struct Model {
    pub(crate) llama: LlamaModel,
    /// The chat template, or why there is none, for the caller.
    pub(crate) template: Result<ChatTemplate, String>,
    /// Built when the first grammar is asked for: it walks the whole vocabulary.
    grammars: OnceLock<Result<Grammars, String>>,
    /// Lists of tools that need no compiling any more.
    pub(crate) checked_tools: Checked,
    /// What it can do.
    pub(crate) limits: Limits,
    vocabulary: Vocabulary,
    /// How texts become tokens.
    pub(crate) tokenizer: Tokenizer,
    /// Tokens that the chat template adds to a conversation; 0: there is no template.
    template_tokens: u32,
}

/// Why a model cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is something else.
    #[error("{}: not a GGUF file", path.display())]
    NotGguf {
        /// The file.
        path: PathBuf,
    },
    /// llama.cpp does not take the file.
    #[error("{}: llama.cpp cannot load this model (its log, target llama-cpp-2, says why): {reason}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What is known.
        reason: String,
    },
    /// The model produces no text.
    #[error("{}: a model of the architecture `{architecture}` produces no text", path.display())]
    NotGenerative {
        /// The file.
        path: PathBuf,
        /// What it is.
        architecture: String,
    },
    /// There is no memory for the context.
    #[error("no context of {kv_tokens} KV cells can be made (try fewer): {reason}")]
    Context {
        /// Cells.
        kv_tokens: usize,
        /// What is known.
        reason: String,
    },
    /// The chat template that was given in place of the model's own is none.
    #[error("--chat-template: {0}")]
    ChatTemplate(String),
    /// A number of the configuration is out of range.
    #[error("{0}")]
    Config(String),
    /// llama.cpp does not start.
    #[error("llama.cpp does not start: {0}")]
    Backend(String),
    /// Loading was given up, because the worker shuts down.
    #[error("loading was given up")]
    Abandoned,
}

// === impl Model ===

impl Model {
    /// Reads a model; tells `state` how far it is, and gives up once `queue` drains.
    pub(crate) fn load(
        config: &Config,
        state: &Arc<State>,
        queue: &Arc<Queue<Job>>,
    ) -> Result<Self, LoadError> {
        if let Some(source) = &config.chat_template {
            prompt::check(source).map_err(LoadError::ChatTemplate)?;
        }
        let gguf = config.gguf.as_path();
        check_file(gguf)?;
        let (progress, jobs) = (Arc::clone(state), Arc::clone(queue));
        let params = LlamaModelParams::default().with_progress_callback(move |done| {
            progress.set_load_progress(done);
            jobs.run_state() == RunState::Serve
        });
        let llama = LlamaModel::load_from_file(backend()?, gguf, &params).map_err(|error| {
            match queue.run_state() {
                RunState::Serve => LoadError::Model {
                    path: gguf.to_owned(),
                    reason: error.to_string(),
                },
                RunState::Drain | RunState::Stop => LoadError::Abandoned,
            }
        })?;
        let architecture = llama
            .meta_val_str("general.architecture")
            .unwrap_or_default();
        if NOT_GENERATIVE
            .iter()
            .any(|other| architecture.contains(other))
        {
            return Err(LoadError::NotGenerative {
                path: gguf.to_owned(),
                architecture,
            });
        }
        let limits = Limits::new(config, &llama)?;
        let vocabulary = Vocabulary::new(&llama);
        let own = config.chat_template.as_deref();
        let template = template(&llama, &vocabulary, own);
        let tokenizer = Tokenizer::new(&llama, |token| vocabulary.bytes(token.0.cast_unsigned()));
        let mut model = Self {
            llama,
            template,
            grammars: OnceLock::new(),
            checked_tools: Checked::default(),
            limits,
            vocabulary,
            tokenizer,
            template_tokens: 0,
        };
        model.template_tokens = model.count_template();
        Ok(model)
    }

    /// Tokens of the prompt of a conversation without content; 0 where the template refuses it.
    fn count_template(&self) -> u32 {
        let empty = Conversation {
            messages_json: br#"[{"role":"user","content":""}]"#,
            tools_json: b"",
            template_kwargs_json: b"",
        };
        let template = self.template.as_ref().ok();
        let rendered =
            template.and_then(|template| template.render(&empty, usize::MAX, &|| true).ok());
        let go_on = |_| Ok::<(), Infallible>(());
        let tokens = rendered.and_then(|rendered| {
            let text = Text::Rendered {
                text: &rendered.text,
                plain: &rendered.plain,
            };
            self.tokenize(text, usize::MAX, go_on).ok()
        });
        tokens.map_or(0, |tokens| u32::try_from(tokens.len()).unwrap_or(u32::MAX))
    }

    /// A context to compute in: the batch, the cache, the threads.
    pub(crate) fn context(&self) -> Result<LlamaContext<'_>, LoadError> {
        let limits = &self.limits;
        let number = |number: usize| {
            u32::try_from(number)
                .map_err(|_| LoadError::Config(format!("{number} is too large a number")))
        };
        // llama.cpp aborts where the batch is smaller than the number of sequences.
        let batch = number(limits.batch_tokens.max(limits.sequences))?;
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(number(limits.kv_tokens)?))
            .with_n_batch(batch)
            .with_n_ubatch(batch)
            .with_n_seq_max(number(limits.sequences)?)
            // Without it the cache is cut evenly, and sharing a part of a sequence aborts.
            .with_kv_unified(true)
            .with_flash_attention_policy(llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_AUTO)
            .with_n_threads(limits.threads)
            .with_n_threads_batch(limits.threads)
            .with_no_perf(true);
        self.llama
            .new_context(backend()?, params)
            .map_err(|error| LoadError::Context {
                kv_tokens: limits.kv_tokens,
                reason: error.to_string(),
            })
    }

    /// What it can do, for the routers.
    pub(crate) fn capacity(&self) -> Capacity {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Capacity {
            max_running: small(self.limits.max_running),
            max_queued: small(self.limits.max_queued),
            kv_total_tokens: self.limits.kv_tokens as u64,
            context_length: small(self.limits.context_length),
            template_tokens: self.template_tokens,
        }
    }

    /// The tokens of a text. See [`Tokenizer::tokenize`].
    pub(crate) fn tokenize<E>(
        &self,
        text: Text<'_>,
        most: usize,
        go_on: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<Vec<Token>, TokenizeError<E>> {
        self.tokenizer.tokenize(&self.llama, text, most, go_on)
    }

    /// How many tokens there are.
    pub(crate) fn vocabulary_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// The bytes of a token, control tokens included.
    pub(crate) fn bytes(&self, token: TokenId) -> &[u8] {
        self.vocabulary.bytes(token)
    }

    /// The token is no text of an answer.
    pub(crate) fn is_control(&self, token: TokenId) -> bool {
        self.vocabulary.is_control(token)
    }

    /// The control token that is called this.
    pub(crate) fn control(&self, name: &str) -> Option<TokenId> {
        self.vocabulary.control(name)
    }

    /// The token ends the model's turn.
    pub(crate) fn ends_turn(&self, token: TokenId) -> bool {
        self.vocabulary.ends_turn(token)
    }

    /// What compiles grammars for this model; slow at the first call.
    pub(crate) fn grammars(&self) -> Result<&Grammars, String> {
        let grammars = self.grammars.get_or_init(|| {
            let vocabulary = LlamaSampler::llguidance_tok_env(&self.llama);
            Grammars::new(&vocabulary).map_err(|error| error.to_string())
        });
        grammars.as_ref().map_err(Clone::clone)
    }
}

/// llama.cpp itself, started once for the whole process.
fn backend() -> Result<&'static LlamaBackend, LoadError> {
    static BACKEND: OnceLock<Result<LlamaBackend, String>> = OnceLock::new();
    let backend = BACKEND.get_or_init(|| {
        llama_cpp_2::send_logs_to_tracing(LogOptions::default());
        LlamaBackend::init().map_err(|error| error.to_string())
    });
    backend
        .as_ref()
        .map_err(|error| LoadError::Backend(error.clone()))
}

/// Says clearly what llama.cpp would only say in its log.
fn check_file(path: &Path) -> Result<(), LoadError> {
    let mut magic = [0; 4];
    match File::open(path).and_then(|mut file| file.read_exact(&mut magic)) {
        Ok(()) if magic == *b"GGUF" => Ok(()),
        Ok(()) => Err(LoadError::NotGguf {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(LoadError::NotGguf {
            path: path.to_owned(),
        }),
        Err(source) => Err(LoadError::Open {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The template that was given, else the model's own.
fn template(
    llama: &LlamaModel,
    vocabulary: &Vocabulary,
    given: Option<&str>,
) -> Result<ChatTemplate, String> {
    let source = match given {
        Some(source) => source.to_owned(),
        None => llama
            .chat_template(None)
            .map_err(|_| "This model has no chat template; use /v1/completions.".to_owned())?
            .to_string()
            .map_err(|_| "This model's chat template is not UTF-8.".to_owned())?,
    };
    let vocab = llama.vocab();
    let text = |token: LlamaToken| {
        if token.0 < 0 {
            return String::new();
        }
        String::from_utf8_lossy(&vocab.token_to_piece(token, true, None)).into_owned()
    };
    let special = SpecialTokens {
        bos: text(vocab.bos()),
        eos: text(vocab.eos()),
        control: vocabulary.control_names().map(ToOwned::to_owned).collect(),
    };
    ChatTemplate::new(&source, special).map_err(|error| error.to_string())
}
