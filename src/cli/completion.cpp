#include "cli/completion.h"

#include <fmt/format.h>

#include <vector>

namespace ravine::cli {

namespace {

struct Word {
  std::string text, summary;
};

// What may follow `command`: its sub-commands, its options and those that every command takes.
std::vector<Word> words_after(const CLI::App& root, const CLI::App& command) {
  std::vector<Word> words;
  for (const CLI::App* sub : command.get_subcommands([](const CLI::App*) { return true; })) {
    words.push_back({sub->get_name(), sub->get_description()});
  }
  const auto add_options = [&](const CLI::App& app) {
    for (const CLI::Option* option : app.get_options()) {
      for (const std::string& name : option->get_lnames())
        words.push_back({"--" + name, option->get_description()});
    }
  };
  add_options(command);
  if (&command != &root) add_options(root);
  return words;
}

struct Entry {
  std::string path;  // "ca issue"; empty: the root
  std::vector<Word> words;
};

void collect(const CLI::App& root, const CLI::App& command, const std::string& path,
             std::vector<Entry>& out) {
  out.push_back({path, words_after(root, command)});
  for (const CLI::App* sub : command.get_subcommands([](const CLI::App*) { return true; })) {
    collect(root, *sub, path.empty() ? sub->get_name() : path + " " + sub->get_name(), out);
  }
}

std::string joined_words(const Entry& entry) {
  std::string out;
  for (const Word& word : entry.words) out += (out.empty() ? "" : " ") + word.text;
  return out;
}

// The commands typed so far, without options, pick the words.
std::string bash_script(const std::vector<Entry>& entries) {
  std::string out = R"(# bash completion for ravine
_ravine() {
  local current=${COMP_WORDS[COMP_CWORD]} path= word words i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    [[ $word == -* ]] && continue
    case "${path:+$path }$word" in
)";
  std::string known;
  for (const Entry& entry : entries) {
    if (!entry.path.empty()) known += fmt::format("{}\"{}\"", known.empty() ? "" : "|", entry.path);
  }
  out += fmt::format("      {}) path=\"${{path:+$path }}$word\" ;;\n", known);
  out += "    esac\n  done\n  case \"$path\" in\n";
  for (const Entry& entry : entries)
    out += fmt::format("    \"{}\") words=\"{}\" ;;\n", entry.path, joined_words(entry));
  out += R"(  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [[ ${#COMPREPLY[@]} -eq 0 && $current != -* ]] && COMPREPLY=($(compgen -f -- "$current"))
}
complete -F _ravine ravine
)";
  return out;
}

std::string zsh_script(const std::vector<Entry>& entries) {
  return "#compdef ravine\n# zsh completion for ravine, by way of the bash one\nautoload -U +X bashcompinit "
         "&& bashcompinit\n" +
         bash_script(entries);
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::string fish_script(const std::vector<Entry>& entries) {
  std::string out = "# fish completion for ravine\ncomplete -c ravine -e\n";
  for (const Entry& entry : entries) {
    std::string condition;
    std::string_view rest = entry.path;
    while (!rest.empty()) {
      const std::size_t space = rest.find(' ');
      condition += fmt::format("{}__fish_seen_subcommand_from {}", condition.empty() ? "" : "; and ",
                               rest.substr(0, space));
      rest = space == std::string_view::npos ? std::string_view() : rest.substr(space + 1);
    }
    if (condition.empty()) condition = "__fish_use_subcommand";
    for (const Word& word : entry.words) {
      const std::string what = word.text.starts_with("--") ? "-l " + word.text.substr(2) : "-a " + word.text;
      out += fmt::format("complete -c ravine -n '{}' {} -d '{}'\n", condition, what, escaped(word.summary));
    }
  }
  return out;
}

}  // namespace

std::string completion_script(const CLI::App& root, std::string_view shell) {
  std::vector<Entry> entries;
  collect(root, root, "", entries);
  if (shell == "fish") return fish_script(entries);
  return shell == "zsh" ? zsh_script(entries) : bash_script(entries);
}

}  // namespace ravine::cli
