# CTest entries: each doctest suite and each end-to-end script is one, so that a failure names its part and two run at a time.
add_test(NAME layers COMMAND ${CMAKE_SOURCE_DIR}/scripts/check_layers.sh ${CMAKE_SOURCE_DIR})
foreach(suite tensor autograd ops gradients parity data nn models train)
  add_test(NAME ${suite} COMMAND glia_tests --test-suite=${suite})
endforeach()
foreach(script journey mistakes documents)
  add_test(NAME ${script} COMMAND ${CMAKE_SOURCE_DIR}/tests/program/${script}.sh)
  set_tests_properties(${script} PROPERTIES ENVIRONMENT "GLIA=$<TARGET_FILE:glia>;GLIA_SOURCE=${CMAKE_SOURCE_DIR}")
endforeach()
