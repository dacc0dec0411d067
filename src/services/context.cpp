#include "services/context.h"

namespace ravine::services {

using session::AppError;

ErrorKind to_kind(AppError code) {
  switch (code) {
    case AppError::refused:
    case AppError::revoked:
      return ErrorKind::refused;
    case AppError::unreachable:
    case AppError::connection_reset:
    case AppError::not_found:
      return ErrorKind::closed;  // the peer is there, what was asked for is not
    case AppError::timed_out:
      return ErrorKind::timed_out;
    case AppError::limit:
      return ErrorKind::limit_reached;
    case AppError::version:
      return ErrorKind::unsupported;
    case AppError::none:
    case AppError::goaway:
    case AppError::shutdown:
      return ErrorKind::unreachable;
    case AppError::internal:
    case AppError::protocol:
      break;
  }
  return ErrorKind::internal;
}

AppError to_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::refused:
    case ErrorKind::unauthenticated:
      return AppError::refused;
    case ErrorKind::unreachable:
    case ErrorKind::closed:
      return AppError::unreachable;
    case ErrorKind::timed_out:
      return AppError::timed_out;
    case ErrorKind::limit_reached:
      return AppError::limit;
    case ErrorKind::not_found:
      return AppError::not_found;
    case ErrorKind::invalid_argument:
    case ErrorKind::unsupported:
      return AppError::protocol;
    default:
      return AppError::internal;
  }
}

std::string_view to_text(AppError code) {
  switch (code) {
    case AppError::none:
      return "closed";
    case AppError::internal:
      return "internal error";
    case AppError::refused:
      return "refused by policy";
    case AppError::unreachable:
      return "target unreachable";
    case AppError::connection_reset:
      return "connection reset";
    case AppError::timed_out:
      return "timed out";
    case AppError::limit:
      return "limit reached";
    case AppError::protocol:
      return "protocol error";
    case AppError::goaway:
      return "another session stays";
    case AppError::revoked:
      return "certificate revoked or expired";
    case AppError::shutdown:
      return "the node stops";
    case AppError::version:
      return "no common protocol version";
    case AppError::not_found:
      return "no such exposed port or service";
  }
  return "unknown error";
}

}  // namespace ravine::services
