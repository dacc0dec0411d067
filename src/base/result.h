// Result<T>: the outcome of an operation that can fail for reasons outside our code. Errors say what failed,
// with which argument, and what to do next; they are for people, so nothing branches on their text.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

#include "base/ensure.h"

namespace ravine {

// What kind of failure, for exit codes, SOCKS replies and RPC codes. Keep small: a kind exists when a caller
// acts on it.
enum class ErrorKind : std::uint8_t {
  invalid_argument,  // the caller's input is wrong: usage, config, malformed bytes
  not_found,         // unknown peer, file, stream
  already_exists,    // port taken, duplicate name or address
  refused,           // policy said no
  unauthenticated,   // certificate or credential not accepted
  unreachable,       // no way to get there now
  timed_out,
  limit_reached,  // a cap of ours or of the peer's
  closed,         // the thing is over
  io,             // the operating system failed us; message has its words
  unsupported,
  internal,
};

std::string_view to_text(ErrorKind kind);

struct Error {
  ErrorKind kind = ErrorKind::internal;
  std::string message;

  // The same error seen from one level up: "context: message".
  Error with_context(std::string_view context) const;
};

template <class T = void>
class [[nodiscard]] Result {
 public:
  using Value = T;
  Result(T value) : inner_(std::move(value)) {}                       // NOLINT: implicit by design
  Result(Error error) : inner_(std::unexpected(std::move(error))) {}  // NOLINT

  bool ok() const { return inner_.has_value(); }
  explicit operator bool() const { return ok(); }
  T& value() & {
    ensure(ok());
    return *inner_;
  }
  const T& value() const& {
    ensure(ok());
    return *inner_;
  }
  T&& value() && {
    ensure(ok());
    return std::move(*inner_);
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  const Error& error() const {
    ensure(!ok());
    return inner_.error();
  }

 private:
  std::expected<T, Error> inner_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : inner_(std::unexpected(std::move(error))) {}  // NOLINT

  bool ok() const { return inner_.has_value(); }
  explicit operator bool() const { return ok(); }
  const Error& error() const {
    ensure(!ok());
    return inner_.error();
  }

 private:
  std::expected<void, Error> inner_;
};

}  // namespace ravine
