// DecodeService.DecodeBatch: many decodes over one stream, each as Decode does it (decode_call.h).
//
// Fairness: a stream holds and waits for at most half of a scheduler's slots at once (one decode
// that wants more goes alone); its other decodes wait inside the stream, in order. So one stream
// neither fills the line that interactive callers stand in nor takes all their slots, and between
// streams and callers it is first come, first served. Half of the slots costs a batch little: a
// step of 32 sequences already reads every weight once for many rows (README, speed).
//
// Messages pass as bytes and are read here: gRPC itself tells a message that is none from the end
// of the stream in no way, and a request would be lost without a word.
//
// One reader, one queue: when it is full every decode of the stream pauses, and nobody else does.
#pragma once

#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "server/inference/decode_call.h"

namespace dreamstate::server {

// The reactor of one stream; deletes itself when the stream is done.
grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StartDecodeBatch(
    const DecodeContext& context, const grpc::CallbackServerContext& call);

}  // namespace dreamstate::server
