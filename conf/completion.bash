# Completion of `sallyport` for bash. Installed as share/bash-completion/completions/sallyport; or: . conf/completion.bash
# What there is to say is asked of the program's own --help, so that it cannot differ from what the program takes.

_sallyport_help() { "${COMP_WORDS[0]/#\~/$HOME}" "$@" --help 2>/dev/null; }

# The words that a command or action is called by: indented lines "  name  summary", and "sallyport COMMAND name" in the usage.
_sallyport_actions() { # command, its help
    sed -nE -e 's/^  ([a-z]+)( .*)?$/\1/p' -e "s/^(usage:|      ) sallyport $1 +([a-z]+)( .*)?\$/\2/p" <<<"$2" | sort -u
}

# The options of an action: those on its line of the usage and --help, or the list of all, where the usage is not by action.
_sallyport_options() { # command, action or nothing, help
    local own=""
    [[ -n $2 ]] && own=$(sed -nE "s/^(usage:|      ) sallyport $1 +$2( |\$)/\2 /p" <<<"$3")
    if [[ -n $own ]]; then
        own+=" --help"
    else
        own=$(grep -E '^  --' <<<"$3")
    fi
    grep -oE -- '--[a-z][a-z-]*' <<<"$own" | sort -u
}

# What may stand after an option or an action, by how the help calls it.
_sallyport_value() { # option or action, help, the word so far
    local kind choices
    [[ $1 =~ ^-{0,2}[a-z][a-z-]*$ ]] || return 1
    kind=$(sed -nE "s/^  $1 +([A-Z]+)( .*)?\$/\1/p" <<<"$2" | head -n 1)
    choices=$(sed -nE "s/^.*$1 ([A-Za-z0-9]+(\|[A-Za-z0-9]+)+).*\$/\1/p" <<<"$2" | head -n 1)
    case "$kind" in
        "") return 1 ;;
        FILE | PATH) mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
        LEVEL) mapfile -t COMPREPLY < <(compgen -W "error warn info debug" -- "$3") ;;
        *) mapfile -t COMPREPLY < <(compgen -W "${choices//|/ }" -- "$3") ;;
    esac
}

# The keys in the file that --file names.
_sallyport_key_ids() {
    local i
    for ((i = 2; i < COMP_CWORD; i++)); do
        [[ ${COMP_WORDS[i]} == --file ]] && "${COMP_WORDS[0]/#\~/$HOME}" key list --file "${COMP_WORDS[i + 1]/#\~/$HOME}" 2>/dev/null
    done | grep -oE '^[0-9A-Za-z]{8}\b'
}

_sallyport() {
    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD - 1]}" command="${COMP_WORDS[1]}" action="" help words
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "$(_sallyport_actions "" "$(_sallyport_help)") --help" -- "$word")
        return
    fi
    help=$(_sallyport_help "$command")
    words=$(_sallyport_actions "$command" "$help")
    if ((COMP_CWORD > 2)) && grep -qxF -e "${COMP_WORDS[2]}" <<<"$words"; then
        action=${COMP_WORDS[2]}
        help=$(_sallyport_help "$command" "$action")
        words=""
    fi
    _sallyport_value "$before" "$help" "$word" && return
    if [[ $command == key && ($action == revoke || $action == rotate) && $word != -* ]]; then
        words=$(_sallyport_key_ids)
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words $(_sallyport_options "$command" "$action" "$help")" -- "$word")
}
complete -o filenames -F _sallyport sallyport
