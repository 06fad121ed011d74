//! The one message of a request, in gRPC framing.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use inferyard_proto::worker::v1::GenerateRequest;
use inferyard_proto::worker::v1::generate_request::Prompt;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// Length in bytes from which a conversation is sent without a copy.
const LONG: usize = 16 << 10;
/// Length of the gRPC message prefix: a compression flag and a 32-bit length.
const PREFIX: usize = 5;
/// Field numbers of `GenerateRequest.chat` and `ChatPrompt.messages_json`.
const CHAT: u32 = 3;
const MESSAGES: u32 = 1;

/// An encoded request.
#[derive(Default)]
pub(super) struct Outgoing {
    headers: HeaderMap,
    first: Bytes,
    /// The rest of the message, if the conversation is long.
    long: Option<Bytes>,
}

// === impl Outgoing ===

impl Outgoing {
    pub(super) fn new(mut headers: HeaderMap, mut request: GenerateRequest) -> Self {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        let long = long_messages(&mut request);
        let tail = long.as_ref().map_or(0, |long| 2 + 2 * 5 + long.len());
        let mut first = BytesMut::with_capacity(PREFIX + request.encoded_len() + tail.min(64));
        first.put_bytes(0, PREFIX);
        request
            .encode(&mut first)
            .expect("a buffer that grows should have room");
        if let Some(long) = &long {
            announce(long.len(), &mut first);
        }
        let length = first.len() - PREFIX + long.as_ref().map_or(0, Bytes::len);
        let length = u32::try_from(length).expect("bodies should be bounded far below 4 GiB");
        first[1..PREFIX].copy_from_slice(&length.to_be_bytes());
        let first = first.freeze();
        Self {
            headers,
            first,
            long,
        }
    }

    pub(super) fn head(&self, uri: Uri) -> Request<()> {
        let mut head = Request::new(());
        *head.method_mut() = Method::POST;
        *head.version_mut() = Version::HTTP_2;
        *head.uri_mut() = uri;
        *head.headers_mut() = self.headers.clone();
        head
    }

    /// The message in one or two pieces.
    pub(super) fn data(&self) -> (Bytes, Option<Bytes>) {
        (self.first.clone(), self.long.clone())
    }
}

/// Takes a long conversation out of the request.
fn long_messages(request: &mut GenerateRequest) -> Option<Bytes> {
    match &mut request.prompt {
        Some(Prompt::Chat(chat)) if chat.messages_json.len() >= LONG => {
            Some(std::mem::take(&mut chat.messages_json))
        }
        _ => None,
    }
}

/// Writes the field headers before a conversation of this length. It is a second occurrence of the `chat` field,
/// which a decoder merges with the first (<https://protobuf.dev/programming-guides/encoding/#last-one-wins>), so the
/// other fields can be encoded before it.
fn announce(length: usize, out: &mut BytesMut) {
    let length = length as u64;
    let inner = key_len(MESSAGES) as u64 + encoded_len_varint(length) as u64 + length;
    encode_key(CHAT, WireType::LengthDelimited, out);
    encode_varint(inner, out);
    encode_key(MESSAGES, WireType::LengthDelimited, out);
    encode_varint(length, out);
}

#[cfg(test)]
mod tests {
    use inferyard_proto::worker::v1::ChatPrompt;

    use super::*;

    fn request(length: usize) -> GenerateRequest {
        GenerateRequest {
            model: "m".to_owned(),
            priority: -7,
            prefix_blocks: vec![1, u64::MAX],
            prompt: Some(Prompt::Chat(ChatPrompt {
                messages_json: vec![b'x'; length].into(),
                tools_json: Bytes::from_static(b"[{}]"),
                parallel_tool_calls: Some(false),
                ..ChatPrompt::default()
            })),
            ..GenerateRequest::default()
        }
    }

    #[test]
    fn a_message_is_whole_in_one_piece_or_in_two() {
        for (length, in_two) in [(0, false), (LONG - 1, false), (LONG, true), (400_000, true)] {
            let outgoing = Outgoing::new(HeaderMap::new(), request(length));
            let (first, long) = outgoing.data();
            assert_eq!(long.is_some(), in_two, "{length}");
            let sent = [first, long.unwrap_or_default()].concat();
            let (prefix, message) = sent.split_at(PREFIX);
            assert_eq!(prefix[0], 0);
            let told = u32::from_be_bytes(prefix[1..].try_into().unwrap());
            assert_eq!(told as usize, message.len());
            assert_eq!(GenerateRequest::decode(message).unwrap(), request(length));
        }
    }

    #[test]
    fn a_long_conversation_is_not_copied() {
        let mut asked = request(LONG);
        let Some(Prompt::Chat(chat)) = &mut asked.prompt else {
            unreachable!()
        };
        let at = chat.messages_json.as_ptr();
        let (_, long) = Outgoing::new(HeaderMap::new(), asked).data();
        assert_eq!(long.unwrap().as_ptr(), at);
    }
}
