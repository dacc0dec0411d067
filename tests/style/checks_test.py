#!/usr/bin/env python3
"""Each style check finds the fault that it is for, and is silent about the same file without the fault."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"


class Tidy(unittest.TestCase):
    def faults(self, path, source):
        """What tools/tidy prints about one file."""
        with tempfile.TemporaryDirectory() as root:
            target = pathlib.Path(root, path)
            target.parent.mkdir(parents=True)
            target.write_text(source, encoding="utf-8")
            command = [sys.executable, TOOLS / "tidy", "--root", root, path]
            outcome = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(outcome.stderr, "")
        self.assertEqual(outcome.returncode, 1 if outcome.stdout else 0)
        return outcome.stdout

    def test_accepts_a_plain_header(self):
        self.assertEqual(self.faults("src/wire/a.h", '#pragma once\n#include "base/bytes.h"\n'), "")

    def test_finds_an_include_against_the_layers(self):
        faults = self.faults("src/wire/a.cpp", '#include "session/types.h"\n')
        self.assertIn("session is not below it", faults)

    def test_finds_siblings_that_include_each_other(self):
        self.assertIn("not below", self.faults("src/forward/a.cpp", '#include "identity/peer_id.h"\n'))

    def test_finds_the_operating_system_in_pure_code(self):
        self.assertIn("no OS", self.faults("src/session/a.cpp", "#include <sys/socket.h>\n"))
        self.assertEqual(self.faults("src/host/a.cpp", "#include <sys/socket.h>\n"), "")

    def test_finds_a_library_outside_its_folder(self):
        self.assertIn("Beast", self.faults("src/node/a.cpp", "#include <boost/beast/http.hpp>\n"))

    def test_finds_a_header_without_guard(self):
        self.assertIn("#pragma once", self.faults("src/base/a.h", "int f();\n"))

    def test_finds_long_lines_and_counts_characters_not_bytes(self):
        self.assertIn("111 columns", self.faults("src/base/a.cpp", "//" + "x" * 109 + "\n"))
        self.assertEqual(self.faults("src/base/a.cpp", "//" + "→" * 108 + "\n"), "")

    def test_finds_long_files(self):
        self.assertIn("601 lines", self.faults("src/base/a.cpp", "\n" * 601))
        self.assertIn("301 lines", self.faults("src/base/a.h", "#pragma once\n" + "\n" * 300))

    def test_finds_long_functions_and_methods(self):
        body = "  f();\n" * 69
        self.assertIn("function of 71", self.faults("src/base/a.cpp", "void g() {\n" + body + "}\n"))
        self.assertEqual(self.faults("src/base/a.cpp", "void g() {\n" + body[7:] + "}\n"), "")
        constructor = "A::A(int x)\n    : x_{x}, y_(x) {\n" + body + "}\n"
        self.assertIn("function of 71", self.faults("src/base/a.cpp", constructor))
        method = "struct A {\n  int g() const override {\n" + body + "  }\n};\n"
        self.assertIn("function of 71", self.faults("src/base/a.cpp", method))

    def test_takes_no_brace_in_text_for_code(self):
        source = "void g() {\n  f(\"{{{\", '{');  // {\n}\n" + "void h();\n" * 80
        self.assertEqual(self.faults("src/base/a.cpp", source), "")

    def test_finds_marks_of_unfinished_work(self):
        self.assertIn("unfinished", self.faults("docs/a.md", "TO" + "DO: more\n"))

    def test_finds_paths_of_one_machine(self):
        self.assertIn("path of one machine", self.faults("docs/a.md", "see /ho" + "me/ann/x\n"))


class Symbols(unittest.TestCase):
    def outcome(self, source):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["c++", "-std=c++20", "-x", "c++", "-c", "-", "-o", f"{folder}/a.o"],
                           input=source, text=True, check=True)
            subprocess.run(["ar", "rc", f"{folder}/a.a", f"{folder}/a.o"], check=True)
            return subprocess.run([sys.executable, TOOLS / "check_symbols", f"{folder}/a.a"],
                                  capture_output=True, text=True)

    def test_accepts_plain_code(self):
        self.assertEqual(self.outcome("#include <string>\nstd::string f() { return \"a\"; }").returncode, 0)

    def test_finds_clocks_randomness_sockets_and_threads(self):
        for source, symbol in [
            ("#include <ctime>\nlong f() { return time(nullptr); }", "time"),
            ("#include <chrono>\nauto f() { return std::chrono::steady_clock::now(); }", "steady_clock"),
            ("#include <random>\nauto f() { return std::random_device{}(); }", "random_device"),
            ("#include <sys/socket.h>\nint f() { return socket(1, 2, 3); }", "socket"),
            ("#include <thread>\nvoid f() { std::thread([] {}).join(); }", "std::thread"),
            ("#include <fstream>\nvoid f() { std::ofstream(\"a\") << 1; }", "std::basic_"),
        ]:
            outcome = self.outcome(source)
            self.assertEqual(outcome.returncode, 1, source)
            self.assertIn(symbol, outcome.stdout)


if __name__ == "__main__":
    unittest.main()
