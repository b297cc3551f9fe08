// What a request of DecodeService and HarvestStates may ask for. Defaults are the contract's.
#pragma once

#include <cstdint>

#include "absl/time/time.h"

namespace dreamstate::server {

struct RequestLimits {
  // Of one message; what must fit one is refused when it does not.
  int64_t max_message_bytes = int64_t{16} << 20;
  // Tokens of a prompt, context, target or document.
  int64_t max_text_tokens = 1 << 20;
  int64_t max_migrating_tokens = 8 << 20;  // of states that migrate, all together

  int max_branches = 64;
  int max_generated_tokens = 1 << 20;
  int default_generated_tokens = 256;
  int max_stop_strings = 16;
  int max_stop_bytes = 256;
  int max_top_log_probs = 20;
  int max_logit_bias = 1024;

  // Messages that wait for a Decode stream's reader before the sequence is paused.
  int stream_queue_messages = 64;
  // A reader that takes nothing for this long is ended and its slots are freed.
  absl::Duration reader_stall = absl::Seconds(30);
  // A stream whose client sends nothing for so long while nothing of it runs is ended.
  absl::Duration stream_silence = absl::Seconds(60);

  // Decodes of one DecodeBatch stream that run or wait; no more are read meanwhile.
  int batch_decodes_in_flight = 256;
  // Bytes of their requests beyond which no more are read.
  int64_t batch_buffered_bytes = int64_t{32} << 20;
  int max_decode_id_bytes = 256;
  // Messages that wait for the stream's reader before its decodes are paused.
  int batch_queue_messages = 1024;

  // Each may hold a whole state file in memory.
  int max_uploads = 16;
  int max_downloads = 16;

  int max_harvest_streams = 16;
  // Documents of one stream that wait, run or are being stored; no more are read from the stream
  // meanwhile.
  int harvest_documents_in_flight = 16;
  // Bytes of documents in flight beyond which no more are read.
  int64_t harvest_buffered_bytes = int64_t{32} << 20;
  // Bytes of answers that wait for a harvest's reader before its documents are paused.
  int64_t harvest_queue_bytes = int64_t{32} << 20;
  int max_document_id_bytes = 256;
  int max_label_bytes = 128;
  int max_request_id_bytes = 128;

  // Tokens of a text that a generated state is told.
  int64_t max_condition_tokens = 256;
  // GenerateStates and EditState calls that run or wait.
  int max_generations = 64;
  int max_states_per_document = 4096;
  int64_t max_documents_per_stream = 100'000;
  // States that are remembered for retries with a request_id.
  int64_t remembered_states = 65'536;
  // At most one progress message in this time.
  absl::Duration harvest_progress = absl::Seconds(1);
};

}  // namespace dreamstate::server
