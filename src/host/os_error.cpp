#include "host/os_error.h"

#include <fmt/format.h>

#include <cerrno>
#include <system_error>

namespace ravine::host {

Error os_error(int error, std::string_view what) {
  ErrorKind kind = ErrorKind::io;
  if (error == ENOENT || error == ENODEV || error == ENXIO) kind = ErrorKind::not_found;
  if (error == EEXIST || error == EADDRINUSE) kind = ErrorKind::already_exists;
  if (error == EACCES || error == EPERM) kind = ErrorKind::refused;
  if (error == EAFNOSUPPORT || error == EADDRNOTAVAIL || error == EPROTONOSUPPORT)
    kind = ErrorKind::unsupported;
  return {kind, fmt::format("{}: {}", what, std::generic_category().message(error))};
}

}  // namespace ravine::host
