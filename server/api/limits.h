// Every bound a client can run into, with its default, in one place (server/config fills it from
// flags and file).
#pragma once
#include <cstdint>

namespace modu::api {

struct Limits {
  int64_t max_body_bytes = 4 << 20;
  int32_t max_json_depth = 64;
  int32_t max_json_keys = 10'000;    // of one body, all objects together
  int32_t max_json_items = 200'000;  // of all arrays together
  int32_t max_messages = 2'048;
  int32_t max_tools = 128;
  int32_t max_stop_strings = 16;
  int32_t max_stop_bytes = 1'024;
  int32_t max_stop_token_ids = 256;
  int32_t max_n = 128;
  int32_t max_prompts = 128;  // of one completions call
  int32_t max_top_logprobs = 20;
  int32_t max_logit_bias = 1'024;
  int32_t max_output_tokens = 0;  // operator's cap; 0: what the context leaves
  int32_t max_queued_requests = 256;
  int64_t max_queued_tokens = 0;        // prompt tokens waiting; 0: 4 x KV pool
  int64_t max_queued_bytes = 64 << 20;  // bodies between the door and the engine
  int32_t queue_deadline_ms = 60'000;
  int32_t request_deadline_ms = 600'000;
  int64_t stream_buffer_bytes = 256 << 10;
  int32_t stream_buffer_events = 256;  // of one choice; REST joins beyond, gRPC cuts off
  int32_t write_stall_ms = 30'000;
  int32_t sse_ping_ms = 15'000;
  int32_t header_deadline_ms = 10'000;
  int32_t body_idle_ms = 10'000;
  int32_t keepalive_idle_ms = 75'000;
  int32_t max_requests_per_connection = 1'000;
  int32_t max_connections = 10'000;
  int32_t max_connections_per_address = 256;
  int32_t max_request_line_bytes = 8 << 10;
  int32_t max_header_bytes = 32 << 10;
  int32_t max_one_header_bytes = 8 << 10;
  int32_t max_headers = 100;
  int32_t max_chunks = 65'536;       // of one chunked body
  int32_t max_grpc_streams = 1'000;  // of one connection: a load balancer's carries many callers
  int32_t max_grpc_message_bytes = 4 << 20;
  int64_t template_max_steps = 1'000'000;
  int32_t template_max_depth = 128;
  int64_t template_max_output_bytes = 4 << 20;
};

}  // namespace modu::api
