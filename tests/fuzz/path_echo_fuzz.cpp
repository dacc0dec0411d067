// Path echoes: nothing that was not made with the key decodes; what was made decodes once, and not when a bit
// of it changed.
#include "fuzz/fuzz_input.h"
#include "session/path_echo.h"

using namespace ravine;
using fuzz::expect;
using session::Echo;
using session::EchoCodec;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView bytes(data, size);
  fuzz::Input input(bytes);
  std::array<std::uint8_t, 32> key{};
  for (auto& byte : key) byte = input.u8();
  const EchoCodec dialler(key, session::Role::dialler);
  EchoCodec acceptor(key, session::Role::acceptor);

  (void)session::is_echo(bytes);
  expect(!acceptor.decode(bytes));  // a forgery by chance is beyond what fuzzing finds

  const Echo echo{.type = static_cast<session::EchoType>(1 + input.below(3)),
                  .path = input.u8(),
                  .nonce = 1 + input.u64() / 2,
                  .value = input.u64()};
  const std::size_t wanted = session::kMinEchoSize + input.below(1400);
  Bytes packet(wanted);
  const Label label{1 + input.u64() / 2};
  if (!dialler.encode(label, echo, wanted, packet)) return 0;
  expect(session::is_echo(packet) && Label::load(packet.data() + 1) == label);

  Bytes damaged = packet;
  // The label may change on the way: it is substituted per path. Everything behind it is protected.
  const std::size_t at = 1 + kLabelSize + input.below(wanted - 1 - kLabelSize);
  damaged[at] ^= static_cast<std::uint8_t>(1u << input.below(8));
  expect(!acceptor.decode(damaged));

  const auto decoded = acceptor.decode(packet);
  if (decoded) {
    expect(decoded->type == echo.type && decoded->path == echo.path && decoded->value == echo.value);
    expect(!acceptor.decode(packet));
  }
  return 0;
}
