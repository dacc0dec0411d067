#include "services/lab/pcap.h"

#include <cerrno>
#include <cstring>

#include "host/os_error.h"

namespace ravine::services {
namespace {

constexpr std::uint8_t kUdp = 17;
constexpr std::uint32_t kRawIp = 101;  // LINKTYPE_RAW

std::uint32_t add_words(std::uint32_t sum, ByteView bytes) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const std::uint32_t byte = bytes[i];
    sum += i % 2 == 0 ? byte << 8 : byte;
  }
  return sum;
}
std::uint16_t folded(std::uint32_t sum) {
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

// In the file's byte order, which its first word tells.
void put32(Bytes& out, std::uint32_t value) {
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<std::uint8_t>(value >> shift));
}

}  // namespace

Bytes make_udp_packet(const SocketAddress& from, const SocketAddress& to, ByteView datagram) {
  const bool v4 = from.ip.is_v4();
  const auto length = static_cast<std::uint16_t>(datagram.size() + 8);
  ByteWriter udp;
  udp.write_u16(from.port);
  udp.write_u16(to.port);
  udp.write_u16(length);
  udp.write_u16(0);
  udp.write(datagram);
  Bytes segment = udp.take();
  const ByteView source{from.ip.data(), from.ip.size()}, target{to.ip.data(), to.ip.size()};
  std::uint32_t sum = add_words(add_words(add_words(0, source), target), segment);
  const std::uint16_t check = folded(sum + length + kUdp);
  store_big_endian<std::uint16_t>(&segment[6], check == 0 ? 0xffff : check);
  ByteWriter ip;
  if (v4) {
    ip.write_u16(0x4500);
    ip.write_u16(static_cast<std::uint16_t>(length + 20));
    ip.write_u32(0x00004000);  // no identification, do not fragment
    ip.write_u8(64);
    ip.write_u8(kUdp);
    ip.write_u16(0);
  } else {
    ip.write_u32(0x60000000);
    ip.write_u16(length);
    ip.write_u8(kUdp);
    ip.write_u8(64);
  }
  ip.write(source);
  ip.write(target);
  Bytes packet = ip.take();
  if (v4) store_big_endian<std::uint16_t>(&packet[10], folded(add_words(0, packet)));
  packet.insert(packet.end(), segment.begin(), segment.end());
  return packet;
}

Result<PcapFile> PcapFile::create(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "wbe");
  if (file == nullptr) return host::os_error(errno, "cannot write the capture " + path);
  Bytes header;
  put32(header, 0xa1b2c3d4);  // microseconds
  put32(header, 2 | 4 << 16);
  put32(header, 0);
  put32(header, 0);
  put32(header, 65535);
  put32(header, kRawIp);
  std::fwrite(header.data(), 1, header.size(), file);
  std::fflush(file);
  return PcapFile(file);
}

void PcapFile::write(Duration at, const SocketAddress& from, const SocketAddress& to, ByteView datagram) {
  const Bytes packet = make_udp_packet(from, to, datagram);
  const auto microseconds = std::chrono::duration_cast<std::chrono::microseconds>(at).count();
  Bytes record;
  put32(record, static_cast<std::uint32_t>(microseconds / 1'000'000));
  put32(record, static_cast<std::uint32_t>(microseconds % 1'000'000));
  put32(record, static_cast<std::uint32_t>(packet.size()));
  put32(record, static_cast<std::uint32_t>(packet.size()));
  record.insert(record.end(), packet.begin(), packet.end());
  std::fwrite(record.data(), 1, record.size(), file_.get());
  std::fflush(file_.get());
}

}  // namespace ravine::services
