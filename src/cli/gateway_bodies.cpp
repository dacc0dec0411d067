#include "cli/gateway_bodies.h"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <zdict.h>
#include <zstd.h>

#include <boost/json/array.hpp>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "cli/output.h"
#include "host/file.h"
#include "host/process.h"

extern char** environ;

namespace ravine::cli {
namespace {

namespace json = boost::json;
using gateway::coder::Coder;

constexpr gateway::coder::MessageContext kBody{.direction = gateway::coder::Direction::body, .request = {}};
constexpr std::size_t kMaxBody = std::size_t{64} << 20;

template <class AfterEach>
Result<Measured> measure(Coder& coder, const std::vector<Bytes>& bodies, AfterEach after_each) {
  Measured measured;
  Duration spent{0};
  for (std::size_t i = 0; i < bodies.size(); ++i) {
    const Duration start = host::thread_cpu_time();
    const Bytes coded = coder.encode(bodies[i], kBody);
    spent += host::thread_cpu_time() - start;
    measured.raw_bytes += bodies[i].size();
    measured.coded_bytes += coded.size();
    const auto decoded = coder.decode(coded, kBody, kMaxBody);
    if (!decoded || *decoded != bodies[i])
      return Error{ErrorKind::internal,
                   fmt::format("body {} does not come back from coder {}", i + 1, coder.name())};
    after_each(bodies[i]);
  }
  const double micros = std::chrono::duration<double, std::micro>(spent).count();
  measured.us_per_byte = measured.raw_bytes == 0 ? 0 : micros / static_cast<double>(measured.raw_bytes);
  return measured;
}

// Runs a program of the search path without its output. False: not there, or it failed.
bool run_program(std::vector<std::string> words) {
  std::vector<char*> arguments;
  arguments.reserve(words.size() + 1);
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (const int descriptor : {1, 2})
    posix_spawn_file_actions_addopen(&actions, descriptor, "/dev/null", 1 /* O_WRONLY */, 0);
  pid_t child = 0;
  const int error = posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  if (error != 0 || waitpid(child, &status, 0) != child) return false;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

std::string percent(std::uint64_t coded, std::uint64_t raw) {
  return raw == 0 ? "-"
                  : fmt::format("{:.1f} %", 100.0 * static_cast<double>(coded) / static_cast<double>(raw));
}

}  // namespace

json::object to_json(const Measured& measured) {
  return {{"raw_bytes", measured.raw_bytes},
          {"coded_bytes", measured.coded_bytes},
          {"us_per_byte", measured.us_per_byte}};
}

Result<Measured> measure_stateless(Coder& coder, const std::vector<Bytes>& bodies) {
  coder.reset();
  return measure(coder, bodies, [](const Bytes&) {});
}

Result<Measured> measure_stream(Coder& coder, const std::vector<Bytes>& bodies) {
  coder.reset();
  auto measured = measure(coder, bodies, [&](const Bytes& body) { coder.commit(body, kBody); });
  coder.reset();
  return measured;
}

std::vector<Ceiling> trained_zstd_ceiling(const std::vector<Bytes>& samples,
                                          const std::vector<Bytes>& bodies) {
  Bytes all;
  std::vector<std::size_t> sizes;
  for (const Bytes& sample : samples) {
    all.insert(all.end(), sample.begin(), sample.end());
    sizes.push_back(sample.size());
  }
  Bytes dictionary(std::size_t{110} << 10);  // what the zstd program makes
  const std::size_t size = ZDICT_trainFromBuffer(dictionary.data(), dictionary.size(), all.data(),
                                                 sizes.data(), static_cast<unsigned>(sizes.size()));
  if (ZDICT_isError(size) != 0) return {};
  const std::unique_ptr<ZSTD_CDict, decltype(&ZSTD_freeCDict)> prepared(
      ZSTD_createCDict(dictionary.data(), size, 19), ZSTD_freeCDict);
  const std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> encoder(ZSTD_createCCtx(), ZSTD_freeCCtx);
  std::uint64_t coded = 0;
  Bytes out;
  for (const Bytes& body : bodies) {
    out.resize(ZSTD_compressBound(body.size()));
    coded += ZSTD_compress_usingCDict(encoder.get(), out.data(), out.size(), body.data(), body.size(),
                                      prepared.get());
  }
  return {{"zstd -19, trained dictionary, each alone", coded}};
}

std::vector<Ceiling> program_ceilings(const std::vector<Bytes>& bodies) {
  std::vector<Ceiling> ceilings{{"brotli -q 11, all in one file", 0}, {"zpaq -m5, all in one file", 0}};
  std::error_code error;
  std::string folder = (std::filesystem::temp_directory_path(error) / "ravine-bench-XXXXXX").string();
  if (error || mkdtemp(folder.data()) == nullptr) return ceilings;
  const std::string input = folder + "/bodies", brotli = folder + "/bodies.br",
                    zpaq = folder + "/bodies.zpaq";
  Bytes all;
  for (const Bytes& body : bodies) {
    all.insert(all.end(), body.begin(), body.end());
    all.push_back('\n');
  }
  if (host::write_file(input, all, host::FileMode::owner_only)) {
    const auto measure_file = [&](Ceiling& ceiling, const std::vector<std::string>& words,
                                  const std::string& file) {
      if (!run_program(words)) return;
      const auto size = std::filesystem::file_size(file, error);
      if (!error) ceiling.coded_bytes = size;
    };
    measure_file(ceilings[0], {"brotli", "-q", "11", "-w", "24", "-k", "-o", brotli, input}, brotli);
    measure_file(ceilings[1], {"zpaq", "add", zpaq, input, "-m5"}, zpaq);
  }
  std::filesystem::remove_all(folder, error);
  return ceilings;
}

void print_report(const BodiesReport& report, std::string_view coder, bool as_json, json::object more) {
  const std::uint64_t raw = report.stateless.raw_bytes;
  if (as_json) {
    json::array ceilings;
    for (const Ceiling& ceiling : report.ceilings)
      ceilings.push_back(
          json::object{{"name", ceiling.name},
                       {"coded_bytes",
                        ceiling.coded_bytes == 0 ? json::value(nullptr) : json::value(ceiling.coded_bytes)}});
    more["coder"] = coder;
    more["stateless"] = to_json(report.stateless);
    more["stream"] = to_json(report.stream);
    more["ceilings"] = std::move(ceilings);
    return print_json(more);
  }
  Table table({"coder", "raw bytes", "coded bytes", "of raw", "µs per byte"});
  const auto add = [&](std::string name, const Measured& measured) {
    table.add({std::move(name), std::to_string(measured.raw_bytes), std::to_string(measured.coded_bytes),
               percent(measured.coded_bytes, measured.raw_bytes),
               fmt::format("{:.2f}", measured.us_per_byte)});
  };
  add(fmt::format("{}, each alone", coder), report.stateless);
  add(fmt::format("{}, as a stream", coder), report.stream);
  for (const Ceiling& ceiling : report.ceilings) {
    const bool absent = ceiling.coded_bytes == 0;
    table.add({ceiling.name, std::to_string(raw),
               absent ? "not installed" : std::to_string(ceiling.coded_bytes),
               absent ? "-" : percent(ceiling.coded_bytes, raw), "-"});
  }
  print(table.to_text());
}

Result<gateway::coder::Model> model_for(const std::string& path) {
  if (path.empty()) return gateway::coder::shipped_model();
  auto file = host::read_file(path, std::size_t{64} << 20);
  if (!file) return file.error();
  auto model = gateway::coder::load_model(*file);
  if (!model) return model.error().with_context(path);
  return model;
}

}  // namespace ravine::cli
