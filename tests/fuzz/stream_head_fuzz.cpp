// The head of an application stream: never asks for more than the head, whatever the pieces; what was read
// can be written again.
#include "fuzz/fuzz_input.h"
#include "services/streams.h"

using namespace ravine;
using fuzz::expect;
using services::HeadOutcome;
using services::HeadReader;

namespace {

struct Outcome {
  HeadOutcome outcome = HeadOutcome::need_more;
  std::size_t used = 0;
  Bytes body;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

Outcome read(ByteView stream, std::size_t piece) {
  HeadReader reader;
  Outcome out;
  while (out.outcome == HeadOutcome::need_more && out.used < stream.size()) {
    const std::size_t wanted = reader.wanted();
    expect(wanted > 0 && wanted <= services::kMaxStreamHead + 8);
    const std::size_t size = std::min({wanted, piece, stream.size() - out.used});
    out.outcome = reader.feed(stream.subspan(out.used, size));
    out.used += size;
  }
  if (out.outcome == HeadOutcome::ready) out.body = to_bytes(reader.body());
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView stream(data, size);
  const Outcome whole = read(stream, size + 1);
  expect(whole == read(stream, 1));
  if (whole.outcome != HeadOutcome::ready) return 0;
  services::StreamRequest request;
  const int body_size = static_cast<int>(whole.body.size());
  if (request.ParseFromArray(whole.body.data(), body_size)) {
    const Outcome again = read(services::encode_head(request), 4096);
    services::StreamRequest copy;
    expect(again.outcome == HeadOutcome::ready &&
           copy.ParseFromArray(again.body.data(), static_cast<int>(again.body.size())));
    expect(copy.port() == request.port() && copy.service() == request.service());
  }
  services::StreamReply reply;
  if (reply.ParseFromArray(whole.body.data(), body_size)) (void)services::encode_head(reply);
  return 0;
}
