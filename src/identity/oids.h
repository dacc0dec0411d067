// Object identifiers as DER content octets.
#pragma once

#include <array>
#include <cstdint>

namespace ravine::identity::oids {

inline constexpr std::array<std::uint8_t, 3> kEd25519{0x2b, 0x65, 0x70};         // 1.3.101.112, RFC 8410
inline constexpr std::array<std::uint8_t, 3> kCommonName{0x55, 0x04, 0x03};      // 2.5.4.3
inline constexpr std::array<std::uint8_t, 3> kSubjectKeyId{0x55, 0x1d, 0x0e};    // 2.5.29.14, RFC 5280 §4.2.1
inline constexpr std::array<std::uint8_t, 3> kKeyUsage{0x55, 0x1d, 0x0f};        // 2.5.29.15
inline constexpr std::array<std::uint8_t, 3> kSubjectAltName{0x55, 0x1d, 0x11};  // 2.5.29.17
inline constexpr std::array<std::uint8_t, 3> kBasicConstraints{0x55, 0x1d, 0x13};  // 2.5.29.19
inline constexpr std::array<std::uint8_t, 3> kAuthorityKeyId{0x55, 0x1d, 0x23};    // 2.5.29.35
inline constexpr std::array<std::uint8_t, 3> kExtendedKeyUsage{0x55, 0x1d, 0x25};  // 2.5.29.37
inline constexpr std::array<std::uint8_t, 4> kAnyPurpose{0x55, 0x1d, 0x25, 0x00};  // 2.5.29.37.0
inline constexpr std::array<std::uint8_t, 8> kServerAuth{0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01};
inline constexpr std::array<std::uint8_t, 8> kClientAuth{0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02};

}  // namespace ravine::identity::oids
