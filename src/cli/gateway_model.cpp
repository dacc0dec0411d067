// ravine gateway train: a model from messages, and how well it does on others. ravine gateway bench --bodies.
#include <fmt/format.h>

#include <memory>

#include "cli/context.h"
#include "cli/gateway_bench.h"
#include "cli/gateway_training.h"
#include "cli/output.h"
#include "host/clock.h"
#include "host/file.h"

namespace ravine::cli {
namespace {

namespace json = boost::json;

struct TrainFlags {
  std::vector<std::string> in;
  std::string out, held_out;
};

Result<BodiesReport> report_on(gateway::coder::Coder& coder, const std::vector<Bytes>& bodies) {
  BodiesReport report;
  auto stateless = measure_stateless(coder, bodies);
  if (!stateless) return stateless.error();
  report.stateless = *stateless;
  auto stream = measure_stream(coder, bodies);
  if (!stream) return stream.error();
  report.stream = *stream;
  return report;
}

int report_held_out(const Context& context, const TrainFlags& flags, const TrainingSet& set,
                    const gateway::coder::Model& model, json::object facts) {
  auto bodies = read_bodies(flags.held_out);
  if (!bodies) return fail(bodies.error());
  const auto coder = gateway::coder::make_model_coder(model.prior, model.id);
  auto report = report_on(*coder, *bodies);
  if (!report) return fail(report.error());
  std::vector<Bytes> samples;
  for (const gateway::TrainingMessage& message : set.messages)
    if (message.phase == gateway::TextPhase::body) samples.push_back(message.text);
  report->ceilings = trained_zstd_ceiling(samples, *bodies);
  for (Ceiling& ceiling : program_ceilings(*bodies)) report->ceilings.push_back(std::move(ceiling));
  print_report(*report, "model", context.json, std::move(facts));
  return kOk;
}

int run_train(const Context& context, const TrainFlags& flags) {
  const gateway::TrainerOptions options;
  auto set = read_training_set(flags.in, options.dictionary_bytes);
  if (!set) return fail(set.error());
  std::size_t bytes = 0;
  for (const gateway::TrainingMessage& message : set->messages) bytes += message.text.size();
  const bool terminal = is_terminal(2);
  print_note(fmt::format("learning from {} messages, {}", set->messages.size(), bytes_text(bytes)));
  const Instant start = host::monotonic_now();
  const gateway::Prior prior =
      gateway::Trainer(options).train(set->messages, set->dictionary, [&](unsigned step, unsigned steps) {
        if (terminal) print_note(fmt::format("step {} of {}", step + 1, steps));
      });
  const Bytes file = prior.encode();
  if (auto written = host::write_file(flags.out, file, host::FileMode::world_readable); !written)
    return fail(written.error());
  auto model = gateway::coder::load_model(file);
  if (!model) return fail(model.error());
  json::object facts{{"out", flags.out},
                     {"model", encode_hex(model->id)},
                     {"file_bytes", file.size()},
                     {"memory_bytes", model->prior->memory_bytes()},
                     {"messages", set->messages.size()},
                     {"training_bytes", bytes}};
  print_note(fmt::format("{}: model {}, {}, {} in memory, after {}", flags.out, encode_hex(model->id),
                         bytes_text(file.size()), bytes_text(model->prior->memory_bytes()),
                         duration_text(host::monotonic_now() - start)));
  if (!flags.held_out.empty()) return report_held_out(context, flags, *set, *model, std::move(facts));
  if (context.json) print_json(facts);
  return kOk;
}

}  // namespace

void add_bodies_options(CLI::App& bench, BodiesFlags& flags) {
  bench.add_option("--bodies", flags.bodies, "Code these bodies: a JSON object with \"body\" per line");
  bench.add_option("--model", flags.model, "A model file in place of the shipped one");
}

int run_bodies_bench(const Context& context, const BodiesFlags& flags) {
  auto bodies = read_bodies(flags.bodies);
  if (!bodies) return fail(bodies.error());
  auto model = model_for(flags.model);
  if (!model) return fail(model.error());
  auto coder = gateway::coder::make_coder(flags.coder, *model);
  if (!coder) return fail(coder.error());
  auto report = report_on(**coder, *bodies);
  if (!report) return fail(report.error());
  report->ceilings = program_ceilings(*bodies);
  if (flags.coder != "zstd") {
    auto zstd = gateway::coder::make_coder("zstd", *model);
    if (!zstd) return fail(zstd.error());
    auto measured = measure_stateless(**zstd, *bodies);
    if (!measured) return fail(measured.error());
    report->ceilings.insert(report->ceilings.begin(),
                            {"zstd -19, the model's dictionary, each alone", measured->coded_bytes});
  }
  print_report(*report, flags.coder, context.json);
  return kOk;
}

void add_gateway_model_commands(CLI::App& gateway, Context& context) {
  auto flags = std::make_shared<TrainFlags>();
  CLI::App* train = add_command(gateway, "train", "Make a model of messages for the coder",
                                "ravine gateway train --in corpus/*.json* --out model.bin\n"
                                "ravine gateway train --in mine.jsonl --out mine.bin --held-out other.jsonl");
  train->add_option("--in", flags->in, "Bodies (.jsonl) and conversations (.json) to learn from")->required();
  train->add_option("--out", flags->out, "The model file to write")->required();
  train->add_option("--held-out", flags->held_out, "Measure it on these bodies, which are not learned");
  train->callback(
      [&context, flags] { context.action = [&context, flags] { return run_train(context, *flags); }; });
}

}  // namespace ravine::cli
