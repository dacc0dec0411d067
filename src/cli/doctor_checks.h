// What `ravine doctor` looks at on this machine. Each check says what it found, and what to do when that is
// not good.
#pragma once

#include <boost/json/array.hpp>
#include <cstdint>
#include <string>
#include <vector>

namespace ravine::cli {

struct Context;

enum class Health : std::uint8_t { good, warning, bad };

struct Finding {
  std::string check;  // "time", "udp", …
  Health health = Health::good;
  std::string found;     // may name files and addresses of this machine
  std::string remedy;    // empty when good
  std::string redacted;  // `found` without names, addresses, IDs and paths: for reports
};

std::vector<Finding> run_checks(const Context& context);
// The report: findings, versions and machine facts, without anything that names a machine or a person.
std::string redacted_report(const std::vector<Finding>& findings);

}  // namespace ravine::cli
