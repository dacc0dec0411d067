// Memory after many streams and many sessions. RAVINE_TEST_STREAMS and RAVINE_TEST_RECONNECTS raise the
// counts for a run by hand.
#include <cstdlib>

#include "host/process.h"
#include "services/two_nodes.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RAVINE_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define RAVINE_SANITIZED 1
#endif
#endif

namespace ravine::services::test {
namespace {

// Sanitizers keep what was freed: under them the counts are small and memory is not looked at.
#ifdef RAVINE_SANITIZED
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

constexpr std::uint64_t kSlack = 1u << 20;  // bytes: pools that still grew after warming up

std::uint64_t count_of(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

class Endurance : public TwoNodes {
 protected:
  // `run(n)` does n times what must leave nothing behind.
  void expect_flat(const char* what, std::uint64_t warm, std::uint64_t count,
                   const std::function<void(std::uint64_t)>& run) {
    run(warm);
    const std::uint64_t before = host::process_facts().rss_anon_bytes;
    run(count);
    const std::uint64_t after = host::process_facts().rss_anon_bytes;
    std::printf("%llu %s: RssAnon %.2f MiB before, %.2f MiB after\n", static_cast<unsigned long long>(count),
                what, static_cast<double>(before) / (1 << 20), static_cast<double>(after) / (1 << 20));
    if (!kSanitized) {
      EXPECT_LE(after, before + kSlack);
    }
  }
};

TEST_F(Endurance, memory_is_flat_over_many_streams) {
  constexpr std::size_t kOutstanding = 64;
  const std::uint64_t count = count_of("RAVINE_TEST_STREAMS", kSanitized ? 2'000 : 100'000);
  session::SessionId session;
  std::promise<void> connected;
  on_loop([&] {
    far_->router.add_service(StreamRequest::TCP, [](const std::shared_ptr<IncomingStream>& stream) {
      if (session::Session* live = stream->accept()) live->finish(stream->stream_id());
    });
    near_->connector.connect("far.fuse", [&](Result<session::SessionId> id) {
      if (id.ok()) session = *id;
      connected.set_value();
    });
  });
  connected.get_future().get();
  ASSERT_FALSE(session.is_none());
  Pending slots[kOutstanding];
  std::uint64_t left = 0, answered = 0;
  const std::function<void(std::size_t)> ask = [&](std::size_t slot) {
    if (left == 0) return;
    --left;
    StreamRequest request;
    request.set_service(StreamRequest::TCP);
    request.set_port(1);
    slots[slot] = open_service(near_->router, session, std::move(request), 60s,
                               [&, slot](const Result<OpenedStream>& stream) {
                                 if (stream.ok()) {
                                   ++answered;
                                   near_->driver.endpoint().find(session)->finish(stream->stream);
                                 }
                                 ask(slot);
                               });
  };
  expect_flat("streams", count / 5, count, [&](std::uint64_t n) {
    on_loop([&] {
      answered = 0;
      left = n;
      for (std::size_t slot = 0; slot < kOutstanding; ++slot) ask(slot);
    });
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60) * (1 + n / 100'000);
    while (!wait_until([&] { return answered == n; }) && std::chrono::steady_clock::now() < end) {
    }
    EXPECT_EQ(answered, n);
  });
  on_loop([&] {
    for (Pending& slot : slots) slot.reset();
  });
}

TEST_F(Endurance, memory_is_flat_over_many_sessions) {
  const std::uint64_t count = count_of("RAVINE_TEST_RECONNECTS", kSanitized ? 20 : 300);
  expect_flat("sessions", 200, count, [&](std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) {
      std::promise<Result<session::SessionId>> answer;
      on_loop([&] {
        near_->connector.connect("far.fuse",
                                 [&](Result<session::SessionId> id) { answer.set_value(std::move(id)); });
      });
      const auto id = answer.get_future().get();
      ASSERT_TRUE(id.ok()) << i << ": " << id.error().message;
      on_loop([&] {
        const Instant now = near_->driver.enter();
        near_->driver.endpoint().find(*id)->close(now, session::AppError::none);
        near_->driver.touch();
      });
      // Closed sessions stay for three probe timeouts; a limit on how many keeps the test's own memory even.
      ASSERT_TRUE(wait_until([&] { return far_->driver.endpoint().counters().sessions < 64; }));
    }
    ASSERT_TRUE(wait_until([&] {
      return near_->driver.endpoint().counters().sessions == 0 &&
             far_->driver.endpoint().counters().sessions == 0;
    }));
  });
}

}  // namespace
}  // namespace ravine::services::test
