// Runs a fuzz target without libFuzzer: every corpus file as it is, cut short, with single bits flipped, and
// with bytes spliced, in an order that is the same on every run. Usage: ravine_fuzz_NAME [--few]
// DIRECTORY_OR_FILE…
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/machine.h"
#include "fuzz/fuzz_input.h"

namespace {

using ravine::Bytes;

// Changes tried per file, and by how much --few divides them: for targets whose every run is a handshake.
constexpr std::size_t kMaxCuts = 64, kMaxFlips = 256, kMaxSplices = 128;
constexpr std::size_t kFew = 8;

char current[512];  // what runs now, for the signal handler

void tell_and_die(int number) {
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, current, std::strlen(current));
  std::signal(number, SIG_DFL);
  std::raise(number);
}

std::size_t runs = 0;

void run(const Bytes& input, const std::string& file, const char* change, std::size_t at) {
  std::snprintf(current, sizeof current, "while replaying %s, %s %zu\n", file.c_str(), change, at);
  // A fresh block of exactly this size, so that a sanitizer sees the first byte read beyond it.
  const std::vector<std::uint8_t> exact(input.begin(), input.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
  ++runs;
}

void replay(const std::string& file, const Bytes& seed, const std::vector<Bytes>& others,
            std::size_t divisor) {
  run(seed, file, "unchanged", 0);
  const std::size_t cut_step = std::max<std::size_t>(1, seed.size() * divisor / kMaxCuts);
  for (std::size_t size = 0; size < seed.size(); size += cut_step) {
    run(Bytes(seed.begin(), seed.begin() + static_cast<std::ptrdiff_t>(size)), file, "cut to", size);
  }
  const std::size_t bits = seed.size() * 8;
  const std::size_t flip_step = std::max<std::size_t>(1, bits * divisor / kMaxFlips);
  for (std::size_t bit = 0; bit < bits; bit += flip_step) {
    Bytes changed = seed;
    changed[bit / 8] ^= static_cast<std::uint8_t>(1u << (bit % 8));
    run(changed, file, "flipped bit", bit);
  }
  ravine::SeededRandom random(seed.size());
  for (std::size_t i = 0; i < kMaxSplices / divisor && !seed.empty(); ++i) {
    Bytes changed = seed;
    const Bytes& other = others[random.below(others.size())];
    if (other.empty()) continue;
    const std::size_t from = random.below(other.size()), to = random.below(changed.size());
    const std::size_t count =
        std::min({other.size() - from, changed.size() - to, std::size_t{1} + random.below(32)});
    std::copy_n(other.begin() + static_cast<std::ptrdiff_t>(from), count,
                changed.begin() + static_cast<std::ptrdiff_t>(to));
    run(changed, file, "splice", i);
  }
}

}  // namespace

int main(int count, char** arguments) {
  std::signal(SIGABRT, tell_and_die);
  std::vector<std::string> files;
  std::size_t divisor = 1;
  for (int i = 1; i < count; ++i) {
    if (std::strcmp(arguments[i], "--few") == 0) {
      divisor = kFew;
    } else if (std::filesystem::is_directory(arguments[i])) {
      for (const auto& entry : std::filesystem::directory_iterator(arguments[i]))
        files.push_back(entry.path());
    } else {
      files.emplace_back(arguments[i]);
    }
  }
  if (files.empty()) {
    std::fprintf(stderr, "no corpus: give a directory with files\n");
    return 1;
  }
  std::sort(files.begin(), files.end());
  std::vector<Bytes> seeds;
  for (const std::string& file : files) {
    std::ifstream in(file, std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  for (std::size_t i = 0; i < files.size(); ++i) replay(files[i], seeds[i], seeds, divisor);
  std::printf("%zu inputs from %zu corpus files\n", runs, files.size());
  return 0;
}
