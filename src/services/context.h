// What every service is given: the loop, the driver, the log and the host's name look-up. Services run on the
// loop's one thread and outlive their connections, not the driver. Only what is named here is shared between
// services.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/log.h"
#include "base/result.h"
#include "runtime/driver.h"

namespace ravine::services {

using Addresses = Result<std::vector<IpAddress>>;
// Looks `host` up without blocking and calls back on the loop's thread, also inline. `host` is a DNS name:
// address literals never reach it.
using Resolver = std::function<void(const std::string& host, std::function<void(Addresses)> done)>;

struct ServiceContext {
  boost::asio::io_context& loop;
  runtime::Driver& driver;
  Log log;
  Resolver resolve;
};

// What a failed operation means on the wire and for a proxy's client.
ErrorKind to_kind(session::AppError code);
session::AppError to_code(ErrorKind kind);
std::string_view to_text(session::AppError code);

}  // namespace ravine::services
