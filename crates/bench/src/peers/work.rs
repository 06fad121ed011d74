//! The kinds of work, which are the rows of the table.

use super::client;
use super::engines::{MODEL, Pace};

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Work {
    /// A short chat, not streamed.
    Short,
    /// Streams of 100 tokens, without pacing.
    Stream,
    /// 64 streams, a token for each every 5 ms.
    Paced,
    /// A prompt of 400 KB.
    Long,
}

// === impl Work ===

impl Work {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Short => "short chat, not streamed",
            Self::Stream => "one streamed token, as fast as it goes",
            Self::Paced => "one streamed token, a step every 5 ms, 64 streams",
            Self::Long => "prompt of 400 KB",
        }
    }

    /// The divisor of CPU time: tokens per request, or 1.
    pub(crate) fn tokens(self) -> u32 {
        match self {
            Self::Short | Self::Long => 1,
            Self::Stream | Self::Paced => 100,
        }
    }

    pub(crate) fn is_streamed(self) -> bool {
        matches!(self, Self::Stream | Self::Paced)
    }

    pub(crate) fn pace(self) -> Pace {
        match self {
            Self::Paced => Pace::Steps,
            Self::Short | Self::Stream | Self::Long => Pace::Instant,
        }
    }

    pub(crate) fn connections(self) -> usize {
        match self {
            Self::Short | Self::Stream => 16,
            Self::Paced => 64,
            Self::Long => 4,
        }
    }

    /// The bytes of a request.
    pub(crate) fn request(self, host: &str, key: &str) -> Vec<u8> {
        let short = "Hello there, how are you?";
        let long = "the quick brown fox jumps over the lazy dog and runs. ";
        let text = match self {
            Self::Long => long.repeat(400 * 1024 / long.len() + 1),
            Self::Short | Self::Stream | Self::Paced => short.to_owned(),
        };
        request(host, key, &text, self.tokens(), self.is_streamed())
    }
}

/// The bytes of a chat request with one message.
pub(crate) fn request(host: &str, key: &str, text: &str, tokens: u32, stream: bool) -> Vec<u8> {
    let body = format!(
        r#"{{"model":"{MODEL}","max_tokens":{tokens},"stream":{stream},"messages":[{{"role":"user","content":"{text}"}}]}}"#
    );
    client::post(host, key, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_json_of_the_length_that_heads_tell() {
        for work in [Work::Short, Work::Stream, Work::Paced, Work::Long] {
            let request = String::from_utf8(work.request("h", "k")).unwrap();
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("content-length: {}", body.len())));
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["max_tokens"], work.tokens());
        }
        assert!(Work::Long.request("h", "k").len() > 400 << 10);
    }
}
