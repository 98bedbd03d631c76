# Completion of `sallyport` for bash. Installed as share/bash-completion/completions/sallyport; or: . conf/completion.bash
_sallyport() {
    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD - 1]}" command="${COMP_WORDS[1]}"
    local words=""
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "run check key token ctl version --help" -- "$word")
        return
    fi
    case "$before" in
        --config | --socket | --file | --key | --out-private | --out-jwks)
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            return
            ;;
        loglevel)
            mapfile -t COMPREPLY < <(compgen -W "error warn info debug" -- "$word")
            return
            ;;
    esac
    case "$command" in
        run) words="--config --help" ;;
        check) words="--config --json --help" ;;
        ctl) words="status backends reload drain loglevel --config --socket --json --help" ;;
        key) words="new list revoke rotate --help" ;;
        token) words="keys --help" ;;
        version) words="--json --help" ;;
    esac
    # What key and token take is asked of themselves, so that it cannot differ from what they do.
    case "$command" in
        key | token)
            words+=" $("${COMP_WORDS[0]}" "$command" --help 2>/dev/null | grep -oE -- '--[a-z-]+' | sort -u)"
            ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -o filenames -F _sallyport sallyport
