// How many bytes coders make of a file of bodies: `gateway bench --bodies` and the report of `gateway train`.
#pragma once

#include <boost/json/value.hpp>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "gateway/coder/choice.h"

namespace ravine::cli {

struct Measured {
  std::uint64_t raw_bytes = 0, coded_bytes = 0;
  double us_per_byte = 0;  // encoding, processor time
};
boost::json::object to_json(const Measured& measured);

// Each body alone against the first state, or as one client's stream in which each is committed. A body that
// does not come back is an error of kind internal.
Result<Measured> measure_stateless(gateway::coder::Coder& coder, const std::vector<Bytes>& bodies);
Result<Measured> measure_stream(gateway::coder::Coder& coder, const std::vector<Bytes>& bodies);

// What other compressors make of the same bodies. `coded_bytes` is 0 where the program is not installed.
struct Ceiling {
  std::string name;
  std::uint64_t coded_bytes = 0;
};
// zstd -19 with a dictionary trained from `samples`, each body alone; nothing without samples.
std::vector<Ceiling> trained_zstd_ceiling(const std::vector<Bytes>& samples,
                                          const std::vector<Bytes>& bodies);
// brotli and zpaq, as programs, over all bodies in one file.
std::vector<Ceiling> program_ceilings(const std::vector<Bytes>& bodies);

struct BodiesReport {
  Measured stateless, stream;
  std::vector<Ceiling> ceilings;
};
void print_report(const BodiesReport& report, std::string_view coder, bool json,
                  boost::json::object more = {});

// The model in `path`, or the shipped one when it is empty.
Result<gateway::coder::Model> model_for(const std::string& path);

struct BodiesFlags {
  std::string bodies, coder = "model", model;
};

}  // namespace ravine::cli
