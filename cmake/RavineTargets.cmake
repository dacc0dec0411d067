# ravine_layer(NAME SOURCES… DEPENDS… ): one static library per folder of src/, named ravine_NAME, and, when
# the folder has *_test.cpp files, one test program ravine_NAME_test registered with the CTest label "unit".

# What the sanitizer variants build: every test program, and those with threads or a real event loop.
add_custom_target(ravine_tests)
add_custom_target(ravine_threaded_tests)
set(RAVINE_THREADED_TESTS ravine_host_test ravine_runtime_test ravine_services_test ravine_node_test)

# Functions are inlined and symbols hidden across the static libraries; the installed library chooses what it
# exports.
function(ravine_layer name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;PRIVATE" ${ARGN})
  add_library(ravine_${name} STATIC ${ARG_SOURCES})
  add_library(Ravine::${name} ALIAS ravine_${name})
  target_include_directories(ravine_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(ravine_${name} PUBLIC ${ARG_DEPENDS} PRIVATE ravine_warnings ${ARG_PRIVATE})
  if(NOT RAVINE_TESTS)
    return()
  endif()
  file(GLOB tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cpp)
  if(tests)
    ravine_test(ravine_${name}_test LABEL unit SOURCES ${tests} DEPENDS ravine_${name})
  endif()
endfunction()

# ravine_test(NAME LABEL label SOURCES… DEPENDS… [TIMEOUT seconds]): a GoogleTest program, one CTest entry per
# program, so that start-up cost is paid once; run the program itself with --gtest_filter for one case.
function(ravine_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPENDS} ravine_warnings GTest::gmock GTest::gtest_main)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/tests)
  if(TARGET ravine_test_pch)
    target_precompile_headers(${name} REUSE_FROM ravine_test_pch)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  if(RAVINE_SANITIZE)
    math(EXPR ARG_TIMEOUT "4 * ${ARG_TIMEOUT}")
  endif()
  add_dependencies(ravine_tests ${name})
  if(name IN_LIST RAVINE_THREADED_TESTS)
    add_dependencies(ravine_threaded_tests ${name})
  endif()
  add_test(NAME ${name} COMMAND ${name} --gtest_brief=1)
  set_tests_properties(${name} PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
endfunction()
