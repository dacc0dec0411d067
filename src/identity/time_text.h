// Wall-clock times in messages, and the one validity check of certificates.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "base/time.h"
#include "identity/certificate.h"
#include "identity/verify.h"

namespace ravine::identity {

std::string to_text(UnixTime at);  // "2026-11-20T06:45:00Z"

// nullopt: valid at `now`, or expired for no longer than `grace`. `skew` forgives clocks that differ.
std::optional<Rejection> check_validity(const Certificate& certificate, UnixTime now,
                                        std::chrono::seconds grace, std::chrono::seconds skew);

}  // namespace ravine::identity
