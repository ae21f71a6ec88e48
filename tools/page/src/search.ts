// Finding functions by regular expression, and how much of everything goes through what was found. Each stack counts
// once, however many of its frames match. Must not: know the page.
import { FunctionNames, Tree } from "./tree.js";

export interface Pattern { test: (fn: number) => boolean; problem: string }

// Case matters only when the pattern has a capital letter.
export function compile(text: string, names: FunctionNames): Pattern | null {
  if (text === "") return null;
  try {
    const expression = new RegExp(text, /\p{Lu}/u.test(text.replace(/\\./g, "")) ? "u" : "iu");
    const answers = new Int8Array(names.name.length);
    return {
      problem: "",
      test: (fn) => {
        if (fn === 0) return false;
        if (fn >= answers.length) return expression.test(names.name[fn]!);
        if (answers[fn] === 0) {
          answers[fn] = expression.test(names.name[fn]!) || expression.test(names.module[fn]!) ? 1 : -1;
        }
        return answers[fn] === 1;
      },
    };
  } catch (error) {
    return { problem: (error as Error).message, test: () => false };
  }
}

// The outermost nodes that match.
export function matches(tree: Tree, pattern: Pattern): number[] {
  const found: number[] = [];
  for (let i = 1; i < tree.parent.length;) {
    if (pattern.test(tree.fn[i]!)) {
      found.push(i);
      i = tree.end[i]!;
    } else {
      i++;
    }
  }
  return found;
}
