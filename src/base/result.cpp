#include "base/result.h"

namespace ravine {

std::string_view to_text(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::invalid_argument:
      return "invalid_argument";
    case ErrorKind::not_found:
      return "not_found";
    case ErrorKind::already_exists:
      return "already_exists";
    case ErrorKind::refused:
      return "refused";
    case ErrorKind::unauthenticated:
      return "unauthenticated";
    case ErrorKind::unreachable:
      return "unreachable";
    case ErrorKind::timed_out:
      return "timed_out";
    case ErrorKind::limit_reached:
      return "limit_reached";
    case ErrorKind::closed:
      return "closed";
    case ErrorKind::io:
      return "io";
    case ErrorKind::unsupported:
      return "unsupported";
    case ErrorKind::internal:
      return "internal";
  }
  return "internal";
}

Error Error::with_context(std::string_view context) const {
  return {kind, std::string(context) + ": " + message};
}

}  // namespace ravine
