// The benchmarks, one function each; registry.cpp lists them with names and targets.
#pragma once

#include "bench/bench.h"

namespace ravine::bench {

// bulk.cpp
Result<Report> run_bulk(const RunOptions& options);
Result<Report> run_bulk_gnutls(const RunOptions& options);
// datagram.cpp
Result<Report> run_datagram(const RunOptions& options);
// requests.cpp
Result<Report> run_rr1(const RunOptions& options);
Result<Report> run_rr64(const RunOptions& options);
// handshake.cpp
Result<Report> run_handshake(const RunOptions& options);
Result<Report> run_resume(const RunOptions& options);
// memory.cpp
Result<Report> run_idle_memory(const RunOptions& options);
// socks.cpp
Result<Report> run_socks_bulk(const RunOptions& options);

}  // namespace ravine::bench
