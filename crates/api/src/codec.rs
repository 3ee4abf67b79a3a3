//! Protobuf on the wire, with a caller's malformed message answered as the caller's fault.

use std::marker::PhantomData;

use prost::Message;
use tonic::{
    Code, Status,
    codec::{BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use tonic_types::{ErrorDetails, StatusExt};

/// tonic-prost's codec answers INTERNAL where a message cannot be decoded (invalid UTF-8, a truncated field); the
/// sender is at fault, so this one answers INVALID_ARGUMENT.
#[derive(Debug)]
pub struct Codec<T, U>(tonic_prost::ProstCodec<T, U>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(tonic_prost::ProstCodec::default())
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = StrictEncoder<T>;
    type Decoder = StrictDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        StrictEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        StrictDecoder(tonic_prost::ProstDecoder::new(BufferSettings::default()))
    }
}

/// Encodes as tonic-prost does.
#[derive(Debug)]
pub struct StrictEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for StrictEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|error| Status::internal(format!("the answer could not be encoded: {error}")))
    }
}

/// Decodes as tonic-prost does, with INVALID_ARGUMENT for what cannot be decoded.
#[derive(Debug)]
pub struct StrictDecoder<U>(tonic_prost::ProstDecoder<U>);

impl<U: Message + Default> Decoder for StrictDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        self.0.decode(buffer).map_err(|status| match status.code() {
            Code::Internal => Status::with_error_details(
                Code::InvalidArgument,
                format!("the message is not valid protobuf: {}", status.message()),
                ErrorDetails::with_error_info("INVALID_REQUEST", "saldo", []),
            ),
            _ => status,
        })
    }
}
