# Prints the groups, targets and variables that the comments of a Makefile describe. Used by `make help`.
/^##@ / { printf "\n%s\n", substr($0, 5) }
/^[a-z0-9-]+:.*## / { split($0, target, ":"); sub(/^.*## /, ""); printf "  %-18s %s\n", target[1], $0 }
/^#: / { variables = variables "  " substr($0, 4) "\n" }
BEGIN { print "make TARGET [VARIABLE=value ...]" }
END { printf "\nVariables\n%s", variables }
